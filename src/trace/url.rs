//! `url.full` as it may leave the process: no user information, no query values, no secret-like path segments.
//!
//! Source: semantic conventions, `docs/http/http-spans.md`, "url.full"; stricter than it: every query value is REDACTED.

use std::fmt::Write;

/// Puts a URL together from what the request says. `path_and_query` is used as it came, redacted; `keep` names the query
/// parameters whose values may stay.
pub fn redacted(scheme: &str, authority: &str, path_and_query: &str, keep: impl Fn(&str) -> bool) -> String {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut url = String::with_capacity(scheme.len() + host.len() + path_and_query.len() + 16);
    let _ = write!(url, "{scheme}://");
    if host.len() != authority.len() {
        url.push_str("REDACTED:REDACTED@");
    }
    url.push_str(host);
    redact_path(path, &mut url);
    if let Some(query) = query {
        url.push('?');
        redact_query(query, &mut url, &keep);
    }
    truncate(&mut url, MAX_LENGTH);
    url
}

/// `url.path` and `url.query`, for who is called.
pub fn redacted_path_and_query(path_and_query: &str, keep: impl Fn(&str) -> bool) -> (String, Option<String>) {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut shown = String::with_capacity(path.len());
    redact_path(path, &mut shown);
    truncate(&mut shown, MAX_LENGTH);
    let query = query.map(|query| {
        let mut shown = String::with_capacity(query.len());
        redact_query(query, &mut shown, &keep);
        truncate(&mut shown, MAX_LENGTH);
        shown
    });
    (shown, query)
}

/// Cuts at a character's border.
pub fn truncate(text: &mut String, mut length: usize) {
    if text.len() > length {
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        text.truncate(length);
    }
}

fn redact_path(path: &str, url: &mut String) {
    if path.len() < SHORTEST_SECRET {
        url.push_str(path);
        return;
    }
    let mut slack_hook = 0;
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            url.push('/');
        }
        // hooks.slack.com/services/T…/B…/secret, also /workflows/ and /triggers/: the last is secret whatever it looks like.
        slack_hook = match segment {
            "services" | "workflows" | "triggers" => 1,
            _ if (1..3).contains(&slack_hook) && is_slack_id(segment) => slack_hook + 1,
            _ if slack_hook == 3 => 4,
            _ => 0,
        };
        if is_telegram_bot(segment) {
            url.push_str("botREDACTED");
        } else if slack_hook > 1 || is_secret_like(segment) {
            url.push_str("REDACTED");
        } else {
            url.push_str(segment);
        }
    }
}

/// `api.telegram.org/bot<number>:<secret>/method`
fn is_telegram_bot(segment: &str) -> bool {
    let number = segment.strip_prefix("bot").and_then(|token| token.split_once(':')).map(|(number, _)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_slack_id(segment: &str) -> bool {
    segment.len() >= 6 && segment.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn redact_query(query: &str, url: &mut String, keep: &impl Fn(&str) -> bool) {
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            url.push('&');
        }
        match pair.split_once('=') {
            Some((name, value)) if keep(name) && !is_secret_like(value) => {
                let _ = write!(url, "{name}={value}");
            }
            Some((name, _)) if !is_secret_like(name) => {
                url.push_str(name);
                url.push_str("=REDACTED");
            }
            // A bare word such as `?wsdl` or `?acl` names an operation; anything longer could be a token.
            None if pair.len() <= 16 && pair.bytes().all(|byte| byte.is_ascii_alphabetic()) => url.push_str(pair),
            _ => url.push_str("REDACTED"),
        }
    }
}

/// Known prefixes, JSON Web Tokens, and long runs that mix lower case, upper case and digits as no word or UUID does.
fn is_secret_like(segment: &str) -> bool {
    if segment.len() < SHORTEST_SECRET {
        return false;
    }
    if PREFIXES.iter().any(|prefix| segment.starts_with(prefix)) {
        return true;
    }
    let run = segment.split(['.', '=', '%', '~', '+']).max_by_key(|run| run.len()).unwrap_or_default();
    run.len() >= LONG_RUN
        && run.bytes().any(|byte| byte.is_ascii_lowercase())
        && run.bytes().any(|byte| byte.is_ascii_uppercase())
        && run.bytes().any(|byte| byte.is_ascii_digit())
}

const MAX_LENGTH: usize = 4096;
const SHORTEST_SECRET: usize = 12;
const LONG_RUN: usize = 24;
const PREFIXES: [&str; 20] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "pk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_redacted_and_the_rest_stays() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let table = [
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/models/gpt-4o-2024-08-06", "/v1/models/gpt-4o-2024-08-06"),
            ("/items?page=2&q=a%20b", "/items?page=REDACTED&q=REDACTED"),
            ("/items?page=2&flag&token", "/items?page=REDACTED&flag&token"),
            ("/bucket?acl", "/bucket?acl"),
            ("/cb?3f9a8b7c6d5e4f3a2b1c", "/cb?REDACTED"),
            ("/cb?a=b=c&", "/cb?a=REDACTED&"),
            (
                "/v1beta/models/g:streamGenerateContent?alt=sse&key=AIzaSyD",
                "/v1beta/models/g:streamGenerateContent?alt=REDACTED&key=REDACTED",
            ),
            ("/bot123456789:AAE-xyz_0123456789/sendMessage", "/botREDACTED/sendMessage"),
            ("/bottle/of/wine/and/more", "/bottle/of/wine/and/more"),
            ("/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", "/services/REDACTED/REDACTED/REDACTED"),
            ("/services/T00000000/B00000000/short", "/services/REDACTED/REDACTED/REDACTED"),
            ("/services/weather/today", "/services/weather/today"),
            ("/api/webhooks/987654321/aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789", "/api/webhooks/987654321/REDACTED"),
            ("/u/eyJhbGciOiJIUzI1NiJ9.e30.x/profile", "/u/REDACTED/profile"),
            ("/keys/sk-proj-1234567890", "/keys/REDACTED"),
            ("/skip/the/longer/line", "/skip/the/longer/line"),
        ];
        for (path, expected) in table {
            assert_eq!(redacted("http", "api.example", path, |_| false), format!("http://api.example{expected}"));
        }
        assert_eq!(redacted("http", "a", &format!("/jobs/{uuid}"), |_| false), format!("http://a/jobs/{uuid}"));
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(redacted("http", "a", &format!("/blobs/{digest}"), |_| false), format!("http://a/blobs/{digest}"));
    }

    #[test]
    fn a_query_value_that_was_asked_for_stays_unless_it_looks_like_a_secret() {
        let url = redacted("http", "h", "/?page=2&limit=eyJhbGciOiJIUzI1&q=a", |name| matches!(name, "page" | "limit"));
        assert_eq!(url, "http://h/?page=2&limit=REDACTED&q=REDACTED");
    }

    #[test]
    fn user_information_is_redacted() {
        assert_eq!(redacted("http", "user:pa@ss@h:81", "/x", |_| false), "http://REDACTED:REDACTED@h:81/x");
    }

    #[test]
    fn a_long_url_is_cut_at_a_character() {
        let url = redacted("http", "h", &format!("/{}", "é".repeat(4000)), |_| false);
        assert!(url.len() <= MAX_LENGTH && url.len() > MAX_LENGTH - 4);
    }
}
