//! Several concurrent TLS hellos, some of which an attacker drops: no run falls back to plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use autonomy_registry::error::Kind;
use autonomy_registry::wire::{Client, ClientOptions};

use crate::kit::wire_server::{Asked, Authority, Plain, Server, answer, ask, options, tls_server, tls_server_named};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntls";

/// The connections seen so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    hellos: usize,
    requests: usize,
    /// Hellos that were answered in TLS.
    spoken: usize,
    is_released: bool,
}

/// The fate of a connection.
enum Fate {
    Drop,
    Pass,
}

/// A path to two servers where the test decides which connections pass.
struct Road {
    host: String,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Road {
    /// `decide` gets the connection's number among its sort, from 1, and the road, to wait for other connections.
    fn new(tls: String, plain: String, decide: fn(bool, usize, &Self) -> Fate) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Arc::new(Self { host: listener.local_addr().unwrap().to_string(), seen: Arc::default() });
        let served = Arc::clone(&road);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (road, tls, plain) = (Arc::clone(&served), tls.clone(), plain.clone());
                std::thread::spawn(move || road.carry(stream.unwrap(), &tls, &plain, decide));
            }
        });
        road
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) -> Seen {
        let mut seen = self.seen.0.lock().unwrap();
        change(&mut seen);
        self.seen.1.notify_all();
        *seen
    }

    /// Waits until `is_met`, for at most `longest`.
    fn wait(&self, longest: Duration, is_met: impl Fn(&Seen) -> bool) {
        let seen = self.seen.0.lock().unwrap();
        let _ = self.seen.1.wait_timeout_while(seen, longest, |seen| !is_met(seen)).unwrap();
    }

    fn carry(&self, mut stream: TcpStream, tls: &str, plain: &str, decide: fn(bool, usize, &Self) -> Fate) {
        let mut first = [0];
        if stream.peek(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let is_hello = first[0] == 0x16;
        let seen = self.note(|seen| *(if is_hello { &mut seen.hellos } else { &mut seen.requests }) += 1);
        let nth = if is_hello { seen.hellos } else { seen.requests };
        if matches!(decide(is_hello, nth, self), Fate::Drop) {
            // Read first: closing a socket with unread bytes resets it.
            let _ = stream.read(&mut [0; 4096]);
            return;
        }
        let mut onward = TcpStream::connect(if is_hello { tls } else { plain }).unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
        let road = Self { host: String::new(), seen: Arc::clone(&self.seen) };
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            let mut is_first = is_hello;
            while let Ok(count @ 1..) = from.read(&mut piece) {
                if back.write_all(&piece[..count]).is_err() {
                    return;
                }
                road.note(|seen| seen.spoken += usize::from(std::mem::take(&mut is_first)));
            }
        });
        let _ = std::io::copy(&mut stream, &mut onward);
    }
}

const LONG: Duration = Duration::from_secs(5);

/// A registry in plain HTTP that requires a password.
async fn basic() -> Server {
    Server::start(|asked: &Asked| match asked.header("authorization") {
        Some("Basic dTpw") => answer(200, &[], "plain"),
        _ => answer(401, &[("www-authenticate", "Basic")], "no"),
    })
    .await
}

/// A client that knows a password for the host, which is named, and trusts the CA.
fn client(folder: &std::path::Path, host: &str, authority: &Authority) -> Client {
    let (logins, ca) = (folder.join("auth.json"), folder.join("ca.pem"));
    std::fs::write(&logins, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dTpw\"}}}}}}")).unwrap();
    std::fs::write(&ca, authority.pem()).unwrap();
    let plain_http_hosts = vec!["127.0.0.1".parse().unwrap()];
    let named = ClientOptions { allow_plain_http: false, plain_http_hosts, ..options() };
    Client::new(ClientOptions { authfile: Some(logins), ca_file: Some(ca), ..named }).unwrap()
}

#[track_caller]
fn is_refused(outcome: autonomy_registry::Result<String>) {
    let error = outcome.unwrap_err();
    assert!(error.chain().contains("has spoken before"), "{}", error.chain());
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_is_dropped_beside_one_that_is_answered_is_no_reason_for_plain_http() {
    let (plain, authority, folder) = (basic().await, Authority::new(), tempfile::tempdir().unwrap());
    let tls = tls_server(&authority, Plain::Alert, false, OK);
    let road = Road::new(tls, plain.host.clone(), |is_hello, nth, road| match (is_hello, nth) {
        // The very first request fails, so that the others run concurrently.
        (_, 1) => Fate::Drop,
        (true, 2) => {
            road.wait(LONG, |seen| seen.hellos == 3);
            Fate::Drop
        }
        // Long enough for a wrong fallback to plain HTTP.
        (true, 3) => {
            road.wait(Duration::from_millis(300), |seen| seen.requests > 1);
            Fate::Pass
        }
        _ => Fate::Pass,
    });
    let client = client(folder.path(), &road.host, &authority);
    assert!(ask(&client, &road.host).await.is_err());
    let (one, other) = tokio::join!(ask(&client, &road.host), ask(&client, &road.host));
    assert!(plain.asked().is_empty(), "something was sent in plain HTTP");
    let (answered, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(answered.unwrap(), "tls");
    is_refused(refused);
    assert_eq!(ask(&client, &road.host).await.unwrap(), "tls");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_plain_http_does_not_count_once_the_host_has_spoken_tls() {
    let (plain, authority, folder) = (basic().await, Authority::new(), tempfile::tempdir().unwrap());
    let tls = tls_server(&authority, Plain::Alert, false, OK);
    let road = Road::new(tls, plain.host.clone(), |is_hello, nth, road| match (is_hello, nth) {
        (_, 1) | (true, 2) => Fate::Drop,
        (false, 2) => {
            road.wait(LONG, |seen| seen.is_released);
            Fate::Pass
        }
        _ => Fate::Pass,
    });
    let client = client(folder.path(), &road.host, &authority);
    assert!(ask(&client, &road.host).await.is_err());
    let fallen_back = ask(&client, &road.host);
    let meanwhile = async {
        let waiting = Arc::clone(&road);
        tokio::task::spawn_blocking(move || waiting.wait(LONG, |seen| seen.requests == 2)).await.unwrap();
        let answered = ask(&client, &road.host).await;
        road.note(|seen| seen.is_released = true);
        answered
    };
    let (refused, answered) = tokio::join!(fallen_back, meanwhile);
    assert_eq!(answered.unwrap(), "tls");
    is_refused(refused);
    let asked = plain.asked();
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
    assert_eq!(ask(&client, &road.host).await.unwrap(), "tls");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_go_over_plain_http_to_a_host_that_has_spoken_tls_since() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    // An attacker in the path answers in plain HTTP, and names the host's own token service.
    let plain = Server::start(|asked: &Asked| {
        let realm = format!("Bearer realm=\"https://{}/token\"", asked.header("host").unwrap());
        answer(401, &[("www-authenticate", &realm)], "")
    })
    .await;
    let tls = tls_server_named(&authority, "127.0.0.1", Plain::Alert, false, |_| {
        let token = r#"{"token":"secret"}"#;
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len())
    });
    let road = Road::new(tls, plain.host.clone(), |is_hello, nth, _| match (is_hello, nth) {
        (true, 1) => Fate::Drop,
        _ => Fate::Pass,
    });
    let client = client(folder.path(), &road.host, &authority);
    let error = ask(&client, &road.host).await.unwrap_err();
    assert!(error.chain().contains("has spoken before"), "{}", error.chain());
    let asked = plain.asked();
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}
