//! A limit on bytes per second: all hosts share it, and every byte on the way counts.

use std::num::NonZeroU64;
use std::time::Duration;

use autonomy_registry::wire::{Client, ClientOptions, Payload, Request};
use futures_util::future::join_all;
use http::Method;
use tokio::time::Instant;

use crate::kit::wire_server::{Asked, Authority, Plain, Server, answer, options, tls_server};

/// Bytes of each large body.
const LARGE: usize = 120_000;

const RATE: u64 = 400_000;

fn limited(options: ClientOptions) -> Client {
    Client::new(ClientOptions { bytes_per_second: NonZeroU64::new(RATE), ..options }).unwrap()
}

async fn serve() -> Server {
    Server::start(|asked: &Asked| {
        let length = if asked.line.contains("large") { LARGE } else { 2 };
        answer(200, &[], vec![b'x'; length])
    })
    .await
}

/// Sends a request, and returns the length of the answer's body.
async fn ask(client: &Client, host: &str, method: Method, path: &str, body: usize) -> usize {
    let payload = if body == 0 { Payload::Empty } else { Payload::Bytes(vec![b'x'; body].into()) };
    let request = Request::new(method, path, "ask", "it").carrying(payload);
    let answer = client.host(host, "a").send(&request).await.unwrap();
    answer.bytes(1 << 20).await.unwrap().len()
}

#[tokio::test]
async fn all_hosts_share_the_rate_each_way_and_a_small_answer_does_not_wait() {
    let (client, servers) = (limited(options()), [serve().await, serve().await, serve().await]);
    let hosts: Vec<_> = servers.iter().map(|server| server.host.as_str()).collect();
    // Connections, and with them the scheme, so that only the rate takes time below.
    join_all(hosts.iter().map(|host| ask(&client, host, Method::GET, "/small", 0))).await;

    let begun = Instant::now();
    let down = join_all(hosts.iter().map(|host| ask(&client, host, Method::GET, "/large", 0)));
    let up = join_all(hosts.iter().map(|host| ask(&client, host, Method::PUT, "/small", LARGE)));
    let small = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        ask(&client, hosts[0], Method::GET, "/small", 0).await;
        begun.elapsed()
    };
    let (down, _, small) = tokio::join!(down, up, small);
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(down, [LARGE; 3]);
    // Fifteen parts of a hundred are the turns that connections are ahead by.
    let least = 0.85 * (3 * LARGE) as f64 / RATE as f64;
    assert!(took > least, "{took} s for what takes {least} s one way");
    assert!(small.as_secs_f64() < least / 3.0, "a small answer took {small:?}");
    let traffic = client.traffic();
    let bodies = 3 * LARGE as u64;
    for bytes in [traffic.received, traffic.sent] {
        assert!((bodies..bodies + 5_000).contains(&bytes), "{traffic:?}");
    }
}

#[tokio::test]
async fn what_tls_adds_is_counted_too() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    let client = limited(ClientOptions { ca_file: Some(path), ..options() });
    let host = tls_server(&authority, Plain::Alert, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(ask(&client, &host, Method::GET, "/v2/", 0).await, 2);
    let (traffic, bodies) = (client.traffic(), client.tally()[&host]);
    assert_eq!((bodies.bytes_in, bodies.bytes_out), (2, 0));
    // A certificate comes in, and a hello goes out.
    assert!(traffic.received > 500 && traffic.sent > 200, "{traffic:?}");
}
