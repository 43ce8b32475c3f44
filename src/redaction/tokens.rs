//! Secrets that begin with something known: one automaton finds the beginnings, a scanner each reads on.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::{API_KEY, CREDENTIALS, Hit, PRIVATE_KEY, TOKEN, WEBHOOK, addresses, assignments, is_dashed, is_word, run};

/// A secret with a prefix of its own.
struct Prefixed {
    prefix: &'static str,
    /// What follows it, and how much of that there is at least.
    class: fn(u8) -> bool,
    least: usize,
    /// The prefix alone says little: what follows has to have a digit, and no letter or digit stands before it, unless what
    /// follows looks random.
    weak: bool,
    with: &'static str,
}

const fn strong(prefix: &'static str, class: fn(u8) -> bool, least: usize) -> Prefixed {
    Prefixed { prefix, class, least, weak: false, with: API_KEY }
}

const fn weak(prefix: &'static str, class: fn(u8) -> bool, least: usize) -> Prefixed {
    Prefixed { prefix, class, least, weak: true, with: API_KEY }
}

const fn webhook(prefix: &'static str, class: fn(u8) -> bool, least: usize) -> Prefixed {
    Prefixed { prefix, class, least, weak: false, with: WEBHOOK }
}

/// A new vendor is a line here.
const PREFIXED: [Prefixed; 51] = [
    weak("sk-", is_dashed, 16), // OpenAI, Anthropic, DeepSeek, OpenRouter, …
    strong("sk_live_", is_word, 10),
    strong("rk_live_", is_word, 10),
    strong("sk_test_", is_word, 10),
    strong("rk_test_", is_word, 10),
    strong("whsec_", is_base64, 16),
    strong("AKIA", is_capital, 16),
    strong("ASIA", is_capital, 16),
    strong("ABIA", is_capital, 16),
    strong("ACCA", is_capital, 16),
    strong("AIza", is_dashed, 30),
    strong("ya29.", is_dotted, 16),
    strong("GOCSPX-", is_dashed, 20),
    strong("ghp_", is_word, 20),
    strong("gho_", is_word, 20),
    strong("ghu_", is_word, 20),
    strong("ghs_", is_word, 20),
    strong("ghr_", is_word, 20),
    strong("github_pat_", is_word, 20),
    weak("xoxa-", is_dashed, 10),
    weak("xoxb-", is_dashed, 10),
    weak("xoxe-", is_dashed, 10),
    weak("xoxp-", is_dashed, 10),
    weak("xoxr-", is_dashed, 10),
    weak("xoxs-", is_dashed, 10),
    weak("xapp-", is_dashed, 10),
    strong("glpat-", is_dotted, 16),
    strong("glrt-", is_dotted, 16),
    strong("gldt-", is_dotted, 16),
    weak("hf_", is_alphanumeric, 20),
    weak("npm_", is_alphanumeric, 30),
    weak("pypi-", is_dashed, 40),
    weak("SG.", is_dotted, 40),
    weak("gsk_", is_alphanumeric, 20),
    weak("xai-", is_alphanumeric, 20),
    weak("pplx-", is_alphanumeric, 20),
    weak("r8_", is_alphanumeric, 20),
    weak("tvly-", is_dashed, 16),
    weak("nvapi-", is_dashed, 20),
    weak("lsv2_", is_word, 20),
    weak("dop_v1_", is_alphanumeric, 32),
    weak("dckr_pat_", is_dashed, 20),
    weak("shpat_", is_alphanumeric, 20),
    weak("vercel_", is_alphanumeric, 20),
    strong("AGE-SECRET-KEY-1", is_capital, 16),
    webhook("hooks.slack.com/services/", is_path, 8),
    webhook("hooks.slack.com/workflows/", is_path, 8),
    webhook("hooks.slack.com/triggers/", is_path, 8),
    webhook("discord.com/api/webhooks/", is_path, 8),
    webhook("discordapp.com/api/webhooks/", is_path, 8),
    webhook("api.telegram.org/bot", is_path, 8),
];

/// Beginnings with a scanner of their own, behind those of [`PREFIXED`].
const OTHERS: [(&str, Other); 19] = [
    ("eyJ", Other::Jwt),
    ("bearer", Other::Bearer),
    ("basic", Other::Basic),
    ("-----BEGIN ", Other::PrivateKey),
    ("://", Other::Url),
    ("passw", Other::Key),
    ("passphrase", Other::Key),
    ("pwd", Other::Key),
    ("pass\"", Other::Key),
    ("pass=", Other::Key),
    ("pass:", Other::Key),
    ("secret", Other::Key),
    ("token", Other::Key),
    ("key", Other::Key),
    ("credential", Other::Key),
    ("authorization", Other::Key),
    ("cookie", Other::Key),
    ("sig=", Other::Key),
    ("signature", Other::Key),
];

#[derive(Clone, Copy)]
enum Other {
    Jwt,
    Bearer,
    Basic,
    PrivateKey,
    Url,
    Key,
}

/// As a DFA: a hundred kilobytes, and the same speed whatever the text.
static BEGINNINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let patterns = PREFIXED.iter().map(|token| token.prefix).chain(OTHERS.iter().map(|(text, _)| *text));
    AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(patterns).ok()
});

pub(super) fn find(text: &str, cut: bool, hits: &mut Vec<Hit<'static>>) {
    let Some(beginnings) = &*BEGINNINGS else { return };
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        cut,
        hits,
        done: 0,
        runs: [Run::default(); PREFIXED.len()],
        jwt: 0,
        keys: 0,
        ends: true,
    };
    for found in beginnings.find_overlapping_iter(text) {
        if found.start() < scan.done {
            continue;
        }
        let pattern = found.pattern().as_usize();
        match (PREFIXED.get(pattern), pattern.checked_sub(PREFIXED.len()).and_then(|other| OTHERS.get(other))) {
            (Some(token), _) => scan.prefixed(token, pattern, found.start()),
            (None, Some((_, other))) => scan.other(*other, found.start(), found.end()),
            (None, None) => {}
        }
    }
}

/// Where a run ends, and behind which place there is no digit, capital or small letter any more.
#[derive(Clone, Copy, Default)]
struct Run {
    end: usize,
    digit: usize,
    capital: usize,
    small: usize,
}

impl Run {
    fn walk(bytes: &[u8], from: usize, class: fn(u8) -> bool) -> Self {
        let end = from + run(bytes, from, class);
        let behind = |wanted: fn(&u8) -> bool| {
            let found = bytes.get(from..end).unwrap_or_default().iter().rposition(wanted);
            found.map_or(from, |last| from + last + 1)
        };
        Self {
            end,
            digit: behind(u8::is_ascii_digit),
            capital: behind(u8::is_ascii_uppercase),
            small: behind(u8::is_ascii_lowercase),
        }
    }

    /// No words joined by dashes, or rarely.
    fn looks_random(self, from: usize) -> bool {
        self.digit > from && self.capital > from && self.small > from
    }
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    cut: bool,
    hits: &'a mut Vec<Hit<'static>>,
    /// Up to here all is hidden.
    done: usize,
    /// Of each prefix the last run: it is walked once, however often the prefix is in it.
    runs: [Run; PREFIXED.len()],
    /// What began before here was looked at, and is nothing.
    jwt: usize,
    keys: usize,
    /// Whether there may be another end of a key.
    ends: bool,
}

impl Scan<'_> {
    fn hide(&mut self, start: usize, end: usize, with: &'static str) {
        self.hits.push(Hit::new(start..end, with));
        self.done = self.done.max(end);
    }

    /// Whether the text may go on behind what reaches to `end`.
    fn is_cut(&self, end: usize) -> bool {
        self.cut && end == self.bytes.len()
    }

    fn follows_word(&self, at: usize) -> bool {
        at.checked_sub(1).and_then(|before| self.bytes.get(before)).is_some_and(u8::is_ascii_alphanumeric)
    }

    fn prefixed(&mut self, token: &Prefixed, index: usize, start: usize) {
        let from = start + token.prefix.len();
        let exact = token.with == WEBHOOK || self.bytes.get(start..from) == Some(token.prefix.as_bytes());
        let Some(walked) = self.runs.get_mut(index).filter(|_| exact) else { return };
        if from >= walked.end {
            *walked = Run::walk(self.bytes, from, token.class);
        }
        let run = *walked;
        let length = run.end - from;
        let begins = !self.follows_word(start);
        let plausible = !token.weak || (begins && run.digit > from) || (length >= 20 && run.looks_random(from));
        let cut = self.is_cut(run.end) && length > 0 && (begins || !token.weak);
        if (length >= token.least && plausible) || cut {
            self.hide(start, run.end, token.with);
        }
    }

    fn other(&mut self, other: Other, start: usize, end: usize) {
        match other {
            Other::Jwt => self.jwt(start),
            Other::Bearer => self.bearer(end),
            Other::Basic => self.basic(end),
            Other::PrivateKey => self.private_key(start, end),
            Other::Url => {
                if let Some(range) = addresses::credentials(self.text, end, self.cut) {
                    self.hide(range.start, range.end, CREDENTIALS);
                }
            }
            Other::Key if start >= self.keys => {
                let (walked, value) = assignments::value(self.text, start, end, self.cut);
                self.keys = walked;
                if let Some((range, with)) = value {
                    self.hide(range.start, range.end, with);
                }
            }
            Other::Key => {}
        }
    }

    /// Three parts of base64, or five; the first begins an object. The last may be empty.
    fn jwt(&mut self, start: usize) {
        if start < self.jwt || self.bytes.get(start..start + 3) != Some(b"eyJ") {
            return;
        }
        let head = start + run(self.bytes, start, is_dashed);
        let mut end = head;
        let mut parts = 1;
        while parts < 5 && self.bytes.get(end) == Some(&b'.') {
            let part = run(self.bytes, end + 1, is_dashed);
            if part < 4 && parts == 1 && !self.is_cut(end + 1 + part) {
                break;
            }
            end += 1 + part;
            parts += 1;
        }
        if (parts > 1 && head - start >= 8) || self.is_cut(end) {
            self.hide(start, end, TOKEN);
        } else {
            self.jwt = head;
        }
    }

    /// Behind the word, in prose too: "bearer of bad news" has neither digit nor length.
    fn bearer(&mut self, from: usize) {
        let blanks = run(self.bytes, from, |byte| byte.is_ascii_whitespace());
        if blanks == 0 {
            return;
        }
        let from = from + blanks;
        let end = from + run(self.bytes, from, |byte| is_dashed(byte) || b".~+/=".contains(&byte));
        let secret = self.bytes.get(from..end).unwrap_or_default();
        let long = secret.len() >= 20 || (secret.len() >= 6 && secret.iter().any(u8::is_ascii_digit));
        if long || (self.is_cut(end) && !secret.is_empty()) {
            self.hide(from, end, TOKEN);
        }
    }

    /// RFC 7617: the base64 of a name, a colon and a password.
    fn basic(&mut self, from: usize) {
        let blanks = run(self.bytes, from, |byte| byte.is_ascii_whitespace());
        if blanks == 0 {
            return;
        }
        let from = from + blanks;
        let end = from + run(self.bytes, from, |byte| is_dashed(byte) || b"+/=".contains(&byte));
        let secret = self.text.get(from..end).unwrap_or_default().trim_end_matches('=');
        let decoded = STANDARD_NO_PAD.decode(secret).or_else(|_| URL_SAFE_NO_PAD.decode(secret));
        let pair = decoded.is_ok_and(|pair| pair.contains(&b':'));
        let cut = self.is_cut(end) && secret.len() >= 4;
        if pair || cut {
            self.hide(from, end, TOKEN);
        }
    }

    /// PEM, its line breaks real or escaped. Without an end: as far as it looks like base64.
    fn private_key(&mut self, start: usize, from: usize) {
        let label = run(self.bytes, from, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        let dashes = from + label;
        let is_private = self.text.get(from..dashes).is_some_and(|label| label.contains("PRIVATE KEY"));
        let closed = self.text.get(dashes..).is_some_and(|rest| rest.starts_with("-----"));
        if !is_private || !(closed || self.is_cut(dashes + run(self.bytes, dashes, |byte| byte == b'-'))) {
            return;
        }
        let body = (dashes + 5).min(self.bytes.len());
        let end = if self.ends { self.text.get(body..).and_then(|rest| rest.find("-----END ")) } else { None };
        self.ends = end.is_some();
        let end = match end {
            Some(found) => {
                let last = body + found + "-----END ".len();
                let label = run(self.bytes, last, |byte| byte.is_ascii_alphanumeric() || byte == b' ');
                last + label + run(self.bytes, last + label, |byte| byte == b'-').min(5)
            }
            None => self.unfinished(body),
        };
        self.hide(start, end, PRIVATE_KEY);
    }

    /// Lines of base64, headers such as `DEK-Info` before them, and the last line, which may be short.
    fn unfinished(&self, body: usize) -> usize {
        let (mut at, mut end, mut long) = (body, body, true);
        loop {
            let mut broken = false;
            loop {
                match (self.bytes.get(at), self.bytes.get(at + 1)) {
                    (Some(b'\\'), Some(b'n' | b'r' | b't' | b'\\')) => (at, broken) = (at + 2, true),
                    (Some(b'\n' | b'\r'), _) => (at, broken) = (at + 1, true),
                    (Some(b' ' | b'\t'), _) => at += 1,
                    _ => break,
                }
            }
            let header = HEADERS.iter().any(|name| self.text.get(at..).is_some_and(|rest| rest.starts_with(name)));
            let word = match header {
                true => run(self.bytes, at, |byte| byte != b'\n' && byte != b'\\'),
                false => run(self.bytes, at, is_base64),
            };
            let last = at + word == self.bytes.len() || (long && broken && end > body);
            if word == 0 || !(header || word >= 16 || last) {
                return end;
            }
            (at, end, long) = (at + word, at + word, header || word >= 16);
        }
    }
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_capital(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_dotted(byte: u8) -> bool {
    is_dashed(byte) || byte == b'.'
}

fn is_path(byte: u8) -> bool {
    is_dashed(byte) || byte == b'/' || byte == b':'
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

const HEADERS: [&str; 4] = ["Proc-Type:", "DEK-Info:", "Comment:", "Version:"];
