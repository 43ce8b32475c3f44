//! Requests in absolute form, as they go by: each goes on in origin form while it is for the same server and says the
//! credential; the first one that is not waits for what is under way, and the relay is left with it.
//!
//! What is behind is [`Http1`], which sees an ordinary connection. Nothing of the client's goes there but heads that were read
//! and written anew, the bodies behind them, and what follows when upstream has accepted another protocol: a credential must
//! not get there in half a head, or in bytes that only we take for something else.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::Plain;
use crate::budget::Use;
use crate::http1::{Body, Fault, head};
use crate::net::Abort;
use crate::proxy::held::Held;
use crate::proxy::http1::{Http1, MAX_HEAD};
use crate::proxy::relay::{Ended, Gather, Verdict, Watch, relay};
use crate::stack::Context;

/// What comes behind a server's requests.
#[derive(Debug)]
pub(super) enum Next {
    /// Other requests: the begin of them.
    Said(BytesMut),
    /// Nothing: the client is to be told that its connection ends.
    Close,
    /// Nothing, and it knows.
    Closed,
}

/// Relays what is for one server: `admits` reads heads.
pub(super) async fn serve<C, U>(
    context: &Context,
    client: (&mut C, Bytes),
    upstream: &mut U,
    drain: &CancellationToken,
    admits: impl Fn(&[u8]) -> Option<Plain>,
) -> Next
where
    C: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let mut requests = Requests::new(context, admits);
    let ended = relay(client, (upstream, Bytes::new()), &mut requests, &context.settings.metrics, drain).await;
    let next = match &ended {
        Ended::Left { .. } if requests.over => Next::Close,
        Ended::Left { from_client, .. } => {
            let mut beyond = BytesMut::from(&*requests.held.take());
            beyond.extend_from_slice(from_client);
            Next::Said(beyond)
        }
        _ => Next::Closed,
    };
    requests.http.conclude(ended);
    next
}

struct Requests<'a, A> {
    http: Http1<'a>,
    context: &'a Context,
    admits: A,
    state: State,
    /// The begin of a head, or what has to wait.
    held: Held,
    /// The client's connection ends here: nobody but its end tells where the last answer ends.
    over: bool,
}

enum State {
    Head,
    Body {
        body: Body,
        upgrades: bool,
    },
    /// Upstream's answer decides what the next bytes are. They wait, unlike where nothing secret can be in them.
    Undecided,
    /// The next request is none of this connection's.
    Leaving,
    /// Another protocol.
    Raw,
}

impl<'a, A: Fn(&[u8]) -> Option<Plain>> Requests<'a, A> {
    fn new(context: &'a Context, admits: A) -> Self {
        Self { http: Http1::shared(context), context, admits, state: State::Head, held: Held::default(), over: false }
    }

    /// Bytes of the client's, with nothing held before them. `read` is what `out` has pieces of.
    fn more(&mut self, mut rest: &[u8], read: &[u8], out: &mut Gather) -> Verdict {
        while let [first, ..] = rest {
            let taken = match &mut self.state {
                State::Head if self.http.is_unread() => return self.http.refuse(Fault::Unreadable),
                // Empty lines behind a body belong to nothing.
                State::Head if matches!(first, b'\r' | b'\n') => 1,
                State::Head if self.http.is_spent() => {
                    self.state = State::Leaving;
                    continue;
                }
                State::Head => {
                    let Some(length) = head::end(rest, 0) else { return self.keep(rest) };
                    let Some(plain) = (self.admits)(rest.get(..length).unwrap_or_default()) else {
                        self.state = State::Leaving;
                        continue;
                    };
                    if self.pass(&plain.head, read, out) == Verdict::Refuse {
                        return Verdict::Refuse;
                    }
                    self.follow(plain.body, plain.upgrades);
                    length
                }
                State::Body { body, upgrades } => {
                    let Ok(fed) = body.feed(rest, |_| {}) else { return self.http.refuse(Fault::Unreadable) };
                    let upgrades = *upgrades;
                    if self.pass(rest.get(..fed.consumed).unwrap_or_default(), read, out) == Verdict::Refuse {
                        return Verdict::Refuse;
                    }
                    if fed.done {
                        self.follow(Body::length(0), upgrades);
                    }
                    fed.consumed
                }
                State::Undecided if self.http.is_undecided() => return self.keep(rest),
                State::Undecided => {
                    self.state = if self.http.is_upgraded() { State::Raw } else { State::Head };
                    continue;
                }
                State::Leaving if self.http.is_idle() => {
                    let kept = self.keep(rest);
                    return if kept == Verdict::Go { Verdict::Leave } else { kept };
                }
                State::Leaving => return self.keep(rest),
                State::Raw => return self.pass(rest, read, out),
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Verdict::Go
    }

    fn follow(&mut self, body: Body, upgrades: bool) {
        self.state = match (body.is_done(), upgrades) {
            (false, upgrades) => State::Body { body, upgrades },
            (true, true) => State::Undecided,
            (true, false) => State::Head,
        };
    }

    /// Bytes go on.
    fn pass(&mut self, bytes: &[u8], read: &[u8], out: &mut Gather) -> Verdict {
        if std::ptr::eq(bytes, read) {
            return self.http.up(bytes, out);
        }
        let mut passed = Gather::default();
        let verdict = self.http.up(bytes, &mut passed);
        out.write(read, &passed.into_bytes(bytes));
        verdict
    }

    fn keep(&mut self, bytes: &[u8]) -> Verdict {
        let kept = self.held.keep(bytes, &self.context.settings.budget, Use::Heads);
        self.held.scanned = self.held.bytes().len();
        if kept && self.held.scanned <= MAX_HEAD { Verdict::Go } else { self.http.refuse(Fault::Unreadable) }
    }

    /// Whether what is held has something to wait for.
    fn waits(&self) -> bool {
        match self.state {
            State::Undecided => self.http.is_undecided(),
            State::Leaving => !self.http.is_idle(),
            State::Head => head::end(self.held.bytes(), self.held.scanned).is_none(),
            State::Body { .. } | State::Raw => false,
        }
    }

    /// What upstream has said may be the last that it is to say.
    fn heard(&mut self) -> Verdict {
        self.over |= self.http.is_lost();
        let leaves = self.http.is_spent() || matches!(self.state, State::Leaving);
        if self.over || (leaves && self.http.is_idle()) { Verdict::Leave } else { Verdict::Go }
    }

    fn is_ready(&self) -> bool {
        !self.held.is_empty() && !self.waits()
    }
}

impl<A: Fn(&[u8]) -> Option<Plain>> Watch for Requests<'_, A> {
    fn up(&mut self, bytes: &[u8], out: &mut Gather) -> Verdict {
        if self.held.is_empty() {
            return self.more(bytes, bytes, out);
        }
        let scanned = self.held.scanned;
        let kept = self.keep(bytes);
        self.held.scanned = scanned;
        if kept != Verdict::Go || self.waits() {
            self.held.scanned = self.held.bytes().len();
            return kept;
        }
        let held = self.held.take();
        self.more(&held, &[], out)
    }

    fn down(&mut self, bytes: &[u8], out: &mut Gather) -> (usize, Verdict) {
        match self.http.down(bytes, out) {
            (taken, Verdict::Go) => (taken, self.heard()),
            ended => ended,
        }
    }

    fn wants_client(&self) -> bool {
        match self.state {
            // The rest waits with the kernel, and FIN behind it: upstream is to hear no end before its turn.
            State::Undecided | State::Leaving => self.held.is_empty() || self.is_due(),
            State::Head | State::Body { .. } | State::Raw => self.http.wants_client(),
        }
    }

    fn is_due(&self) -> bool {
        self.http.is_due() || self.is_ready()
    }

    fn deadline(&self) -> Option<Instant> {
        self.http.deadline()
    }

    fn expired(&mut self) {
        self.http.expired();
    }

    fn draining(&mut self) {
        self.http.draining();
    }

    fn resume(&mut self, out: &mut Gather) -> Verdict {
        let verdict = self.http.resume(out);
        if verdict != Verdict::Go || !self.is_ready() {
            self.held.written();
            return verdict;
        }
        let held = self.held.take();
        self.more(&held, &[], out)
    }

    fn client_finished(&mut self, out: &mut Gather) {
        if matches!(self.state, State::Head) {
            // Half a head is nobody's: the server could not answer it.
            self.held.take();
        }
        self.http.client_finished(out);
    }

    fn upstream_finished(&mut self, out: &mut Gather) -> Verdict {
        if self.http.is_upgraded() {
            return self.http.upstream_finished(out);
        }
        // Between requests it is no affair of the client's, who may want to go elsewhere next.
        if !self.http.is_idle() {
            self.http.upstream_finished(out);
            self.over = true;
        }
        Verdict::Leave
    }

    fn upstream_broke(&mut self, out: &mut Gather) -> Verdict {
        if self.http.is_idle() { Verdict::Leave } else { self.http.upstream_broke(out) }
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty() && matches!(self.state, State::Head) && self.http.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::super::request::{self, Form};
    use super::*;
    use crate::budget::Budget;
    use crate::proxy::http1::tests::context;

    type Admits = fn(&[u8]) -> Option<Plain>;

    fn admits(head: &[u8]) -> Option<Plain> {
        match request::read(head, b"c2VjcmV0").1.ok()? {
            request::Request { to, form: Form::Plain(plain) } if to.host == "one" => Some(plain),
            _ => None,
        }
    }

    fn requests(context: &Context) -> Requests<'_, Admits> {
        Requests::new(context, admits)
    }

    /// What goes on of these bytes, without our line; and whether the relay goes on.
    fn say(requests: &mut Requests<'_, Admits>, bytes: &[u8]) -> (String, Verdict) {
        let (mut gone, mut verdict) = (Vec::new(), Verdict::Go);
        for piece in [bytes, b"".as_slice()] {
            let mut out = Gather::default();
            if verdict == Verdict::Go {
                verdict = if piece.is_empty() { requests.resume(&mut out) } else { requests.up(piece, &mut out) };
            }
            gone.extend(out.into_bytes(piece));
        }
        let lines = gone.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"traceparent: "));
        (String::from_utf8(lines.flatten().copied().collect()).unwrap(), verdict)
    }

    fn answer(requests: &mut Requests<'_, Admits>, answer: &str) {
        requests.down(answer.as_bytes(), &mut Gather::default());
    }

    #[test]
    fn however_it_is_cut_the_same_goes_on_without_the_credential_and_what_is_for_others_waits() {
        let ours = "Proxy-Authorization: Basic c2VjcmV0\r\n";
        let elsewhere = format!("GET http://two/ HTTP/1.1\r\n{ours}\r\nand more");
        let said = format!(
            "GET http://one/a HTTP/1.1\r\n{ours}\r\n\r\nPOST http://one HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\
             {ours}\r\n5\r\nGET h\r\n0\r\n\r\n{elsewhere}"
        );
        let expected = "GET /a HTTP/1.1\r\nHost: one\r\n\r\nPOST / HTTP/1.1\r\nHost: one\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET h\r\n0\r\n\r\n";
        let context = context(Budget::unlimited());
        for cut in 0..=said.len() {
            let mut requests = requests(&context);
            let (first, second) = said.as_bytes().split_at(cut);
            let gone = [say(&mut requests, first), say(&mut requests, second)];
            assert_eq!(gone.each_ref().map(|(gone, _)| gone.as_str()).concat(), expected, "{cut}");
            assert!(gone.iter().all(|(_, verdict)| *verdict == Verdict::Go), "{cut}");
            answer(&mut requests, "HTTP/1.1 204 No\r\n\r\n");
            assert!(!requests.is_due() && !requests.is_idle(), "{cut}");
            answer(&mut requests, "HTTP/1.1 204 No\r\n\r\n");
            assert!(requests.is_due());
            assert_eq!(say(&mut requests, b""), (String::new(), Verdict::Leave), "{cut}");
            assert_eq!(requests.held.take(), elsewhere.as_bytes(), "{cut}");
        }
        // The client ends in the middle: what has gone is what would have gone, and no half head behind it.
        for end in 0..said.len() {
            let mut requests = requests(&context);
            let (gone, _) = say(&mut requests, &said.as_bytes()[..end]);
            let mut out = Gather::default();
            requests.client_finished(&mut out);
            let gone = gone + &String::from_utf8(out.into_bytes(&[])).unwrap();
            assert!(expected.starts_with(&gone) && !gone.contains("roxy"), "{end}: {gone}");
        }
    }

    #[test]
    fn what_comes_behind_a_request_for_another_protocol_waits_for_the_answer() {
        let ours = "Proxy-Authorization: Basic c2VjcmV0\r\n";
        let asks = format!("GET http://one/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n{ours}\r\n");
        let next = format!("GET http://one/next HTTP/1.1\r\n{ours}\r\n");
        let context = context(Budget::unlimited());
        for (status, goes) in [("101 Yes", next.as_str()), ("204 No", "GET /next HTTP/1.1\r\nHost: one\r\n\r\n")] {
            let mut requests = requests(&context);
            let (gone, verdict) = say(&mut requests, format!("{asks}{next}").as_bytes());
            assert_eq!((gone.matches("GET").count(), verdict), (1, Verdict::Go), "{gone}");
            assert!(!requests.wants_client(), "nor is FIN read before its turn");
            answer(&mut requests, &format!("HTTP/1.1 {status}\r\n\r\n"));
            assert!(requests.is_due());
            assert_eq!(say(&mut requests, b"").0, goes);
        }
    }

    #[test]
    fn nothing_goes_on_behind_an_answer_that_cannot_be_read() {
        let context = context(Budget::unlimited());
        let mut requests = requests(&context);
        let next = b"GET http://one/ HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n";
        say(&mut requests, next);
        answer(&mut requests, "ICY 200 OK\r\n\r\n");
        assert_eq!(say(&mut requests, next), (String::new(), Verdict::Refuse));
    }

    #[tokio::test]
    async fn a_server_says_nothing_but_its_answers_on_a_connection_that_is_for_others_too() {
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        for (said, answers, beyond) in [
            (A.to_owned(), vec![OK, evil], ""),
            (A.to_owned(), vec![&format!("{OK}{evil}")], ""),
            (format!("{A}{B}"), vec![&format!("{OK}{evil}")], B),
            (format!("{A}GET http://one/ha"), vec![OK, evil], "GET http://one/ha"),
            (A.to_owned(), vec![OK, "nonsense"], ""),
            (A.to_owned(), vec![&format!("{OK}\r\n\r\nHTTP/1.1 100 Go on\r\n\r\n")], ""),
        ] {
            let (heard, next) = play(&said, &answers, None).await;
            assert_eq!((heard.as_str(), next), (OK, Some(beyond.to_owned())), "{said}{answers:?}");
        }
        // An answer before the end of its request: the rest goes where it belongs, the next request does not.
        let context = context(Budget::unlimited());
        let mut requests = requests(&context);
        say(&mut requests, b"POST http://one/ HTTP/1.1\r\nHost: one\r\nProxy-Authorization: Basic c2VjcmV0\r\nContent-Length: 6\r\n\r\nabc");
        let (mut out, answers) = (Gather::default(), [OK, evil].concat());
        assert_eq!(requests.down(answers.as_bytes(), &mut out), (answers.len(), Verdict::Go));
        assert_eq!(out.into_bytes(answers.as_bytes()), OK.as_bytes());
        assert_eq!(say(&mut requests, [b"def", A.as_bytes()].concat().as_slice()), ("def".to_owned(), Verdict::Leave));
        assert_eq!(requests.held.take(), A.as_bytes());
    }

    #[tokio::test]
    async fn an_answer_whose_end_nobody_knows_is_the_last_on_the_clients_connection() {
        for answer in [
            "ICY 200 OK\r\n\r\nla la",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
        ] {
            for said in [A.to_owned(), [A, B].concat(), [A, A].concat()] {
                assert_eq!(play(&said, &[answer], None).await, (answer.to_owned(), None), "{said}");
            }
        }
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\nup to the end",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
            "HTTP/1.1 2",
            "",
        ] {
            for said in [A.to_owned(), [A, B].concat(), [A, A].concat()] {
                assert_eq!(play(&said, &[answer], Some(End::Upstream)).await, (answer.to_owned(), None), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_between_requests_does_not_end_the_clients_connection() {
        for answers in [&[OK][..], &[OK, ""]] {
            for said in [A.to_owned(), [A, B].concat()] {
                let (heard, next) = play(&said, answers, Some(End::Upstream)).await;
                assert_eq!((heard.as_str(), next.as_deref()), (OK, Some(&said[A.len()..])), "{answers:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_for_another_server_survives_the_clients_fin() {
        let (heard, next) = play(&[A, B].concat(), &[OK], Some(End::Client)).await;
        assert_eq!((heard.as_str(), next.as_deref()), (OK, Some(B)));
    }

    #[tokio::test]
    async fn another_protocol_is_spoken_with_nobody_who_was_not_asked_for_it() {
        let switching = "HTTP/1.1 101 Yes\r\n\r\n";
        let asks = A.replace("\r\n\r\n", "\r\nUpgrade: x\r\n\r\n");
        let properly = asks.replace("Upgrade", "Connection: keep-alive, upgrade\r\nUpgrade");
        for said in [A.to_owned(), asks.clone(), [A, &properly].concat(), [&asks, A].concat()] {
            assert_eq!(play(&said, &[switching], None).await, (switching.to_owned(), None), "{said}");
        }
    }

    /// What the client hears of these answers to a request, each said once the one before was heard, and what the client has said
    /// beyond, if its connection goes on. Then somebody says FIN.
    async fn play(said: &str, answers: &[&str], fin: Option<End>) -> (String, Option<String>) {
        let context = context(Budget::unlimited());
        let ((mut client, mut ours), (mut to_upstream, mut upstream)) = (duplex(1 << 16), duplex(1 << 16));
        let drain = CancellationToken::new();
        let talks = async {
            client.write_all(said.as_bytes()).await.unwrap();
            if fin == Some(End::Client) {
                client.shutdown().await.unwrap();
            }
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(upstream.read_buf(&mut asked).await.unwrap(), 0);
            }
            let mut heard = Vec::new();
            for (at, answer) in answers.iter().enumerate() {
                upstream.write_all(answer.as_bytes()).await.unwrap();
                let before = heard.len();
                while at + 1 < answers.len() && heard.len() < before + answer.len() {
                    assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0);
                }
            }
            if fin == Some(End::Upstream) {
                upstream.shutdown().await.unwrap();
            }
            heard
        };
        let serves = serve(&context, (&mut ours, Bytes::new()), &mut to_upstream, &drain, admits as Admits);
        let guarded = timeout(Duration::from_secs(30), async { tokio::join!(serves, talks) });
        let (next, mut heard) = guarded.await.expect("it ends");
        drop(ours);
        client.read_to_end(&mut heard).await.unwrap();
        let beyond = match next {
            Next::Said(beyond) => Some(String::from_utf8(beyond.to_vec()).unwrap()),
            Next::Close => None,
            Next::Closed => panic!("{said}{answers:?}"),
        };
        (String::from_utf8(heard).unwrap(), beyond)
    }

    #[derive(Clone, Copy, PartialEq)]
    enum End {
        Client,
        Upstream,
    }

    const A: &str = "GET http://one/ HTTP/1.1\r\nHost: one\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n";
    const B: &str = "GET http://two/ HTTP/1.1\r\nHost: two\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}
