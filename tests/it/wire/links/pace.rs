//! Hosts that ask for less: fewer concurrent requests, and none for a while.

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_registry::retry::Retry;
use autonomy_registry::wire::{Client, Request, Scopes};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::kit::wire_server::client;

/// Requests that a server received.
#[derive(Default)]
struct Seen {
    in_flight: usize,
    /// Requests in flight at the arrival of each one, itself included.
    together: Vec<usize>,
    /// The arrival of each.
    came: Vec<Instant>,
}

/// A server that takes a second for every request; `answer` gives the response by request number.
struct Busy {
    host: String,
    seen: Arc<Mutex<Seen>>,
}

impl Busy {
    async fn start(answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Seen>>::default();
        let noted = Arc::clone(&seen);
        let router = axum::Router::new().fallback(move || {
            let (seen, answer) = (Arc::clone(&noted), answer.clone());
            async move {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.in_flight += 1;
                    let together = seen.in_flight;
                    seen.together.push(together);
                    seen.came.push(Instant::now());
                    seen.came.len()
                };
                tokio::time::sleep(Duration::from_secs(1)).await;
                seen.lock().unwrap().in_flight -= 1;
                answer(number)
            }
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { host, seen }
    }

    /// Sends this many requests at once, with retries; returns the requests in flight at each arrival.
    async fn asked(&self, client: &Client, count: usize) -> Vec<usize> {
        let questions = (0..count).map(|_| {
            let host = client.host(&self.host, "a");
            tokio::spawn(async move {
                host.retrying(Retry::transient, || async {
                    let request = Request::new(Method::GET, "/v2/", "ask", "it").needing(Scopes::default());
                    host.send(&request).await?.expect(&[200]).await?.bytes(100).await
                })
                .await
            })
        });
        for question in questions.collect::<Vec<_>>() {
            question.await.unwrap().unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap().together)
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_gets_half_as_much_at_a_time_and_then_more_again() {
    for refusal in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let answer = move |number| if number == 2 { refusal.into_response() } else { ().into_response() };
        let server = Busy::start(answer).await;
        let client = client();
        assert_eq!(server.asked(&client, 1).await, [1]);
        let together = server.asked(&client, 16).await;
        assert_eq!(together.len(), 17, "one was sent again");
        assert_eq!(together.iter().max(), Some(&16), "nothing was held back before the refusal");
        let together = server.asked(&client, 100).await;
        assert_eq!(together[..8].iter().max(), Some(&8), "half of it after: {together:?}");
        let most = *together.iter().max().unwrap();
        assert!((12..=20).contains(&most), "it grows by one for every window: {together:?}");
    }
}

fn refused_for(pause: &str) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", pause.to_owned())]).into_response()
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_seconds_or_until_a_moment_is_kept_by_every_request_to_the_host() {
    let seconds: fn(usize) -> Response = |number| if number == 2 { refused_for("40") } else { ().into_response() };
    let moment: fn(usize) -> Response = |number| {
        if number != 2 {
            return ().into_response();
        }
        // By this server's clock, which differs from the test's.
        let then = Timestamp::now() + Duration::from_secs(41);
        refused_for(&then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    };
    for answer in [seconds, moment] {
        let server = Busy::start(answer).await;
        let client = client();
        server.asked(&client, 1).await;
        let begun = Instant::now();
        let refused = tokio::spawn({
            let (client, server) = (client.clone(), Busy { host: server.host.clone(), seen: Arc::clone(&server.seen) });
            async move { server.asked(&client, 1).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.asked(&client, 5).await;
        refused.await.unwrap();
        let came = std::mem::take(&mut server.seen.lock().unwrap().came);
        assert_eq!(came.len(), 8);
        let early = came[2..].iter().filter(|came| came.duration_since(begun) < Duration::from_secs(40)).count();
        assert_eq!(early, 0, "requests before the pause was over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_nobody_would_wait_for_holds_nobody_back() {
    let server = Busy::start(|number| if number == 1 { refused_for("86400") } else { ().into_response() }).await;
    let client = client();
    let host = client.host(&server.host, "a");
    let request = || Request::new(Method::GET, "/v2/", "ask", "it").needing(Scopes::default());
    let once = || async { host.send(&request()).await?.expect(&[200]).await };
    let error = host.retrying(Retry::transient, once).await.unwrap_err();
    assert_eq!(error.requested_pause(), Some(Duration::from_secs(86_400)));
    let begun = Instant::now();
    once().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(server.seen.lock().unwrap().came.len(), 2);
}
