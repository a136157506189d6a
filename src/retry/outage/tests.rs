//! Outages under a paused clock.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::error::{Kind, Result};
use crate::retry::Retry;

const SECOND: Duration = Duration::from_secs(1);

fn refused(contact: &Contact) -> Error {
    Error::new(Kind::Unavailable, "get").because(contact.outage("connection refused", Instant::now()))
}

/// Asks `contact` until it answers at `back`, or until the time is over. Returns the number of tries and the time.
async fn ask(retry: Retry, contact: &Contact, back: Option<Instant>) -> (Result<()>, u32, Duration) {
    let (tried, begun) = (AtomicU32::new(0), Instant::now());
    let done = retry
        .run(Retry::transient, || async {
            tried.fetch_add(1, Ordering::Relaxed);
            if back.is_some_and(|back| Instant::now() >= back) {
                contact.answered(true);
                return Ok(());
            }
            Err(refused(contact))
        })
        .await;
    (done, tried.into_inner(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_never_reached_is_waited_for_shorter_than_one_that_was() {
    let retry = Retry::default();
    for (is_met, has_moved, limit) in [(false, false, 20), (true, false, 600), (false, true, 600)] {
        let outages = retry.outages();
        let contact = outages.contact("r.example");
        if is_met {
            contact.answered(true);
        }
        if has_moved {
            outages.content_moved();
        }
        let (done, tries, took) = ask(retry, &contact, None).await;
        assert_eq!(done.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(took.as_secs(), limit, "the last try is made at the end of the time");
        assert!(u64::from(tries) <= 8 + limit / 5, "{tries} tries");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_is_found_within_ten_seconds() {
    let retry = Retry::default();
    for away in [1, 3, 20, 120, 580] {
        let contact = retry.outages().contact("r.example");
        contact.answered(true);
        let away = away * SECOND;
        let (done, _, took) = ask(retry, &contact, Some(Instant::now() + away)).await;
        done.unwrap();
        assert!(took <= away + retry.longest_pause, "{took:?} for {away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn zero_never_waits_and_a_given_time_holds_at_first_contact_too() {
    for limit in [Duration::ZERO, 5 * SECOND] {
        let retry = Retry { first_contact: limit, outage: limit, ..Retry::default() };
        for is_met in [false, true] {
            let contact = retry.outages().contact("r.example");
            contact.answered(is_met);
            let (done, tries, took) = ask(retry, &contact, None).await;
            assert!(done.is_err());
            assert_eq!((took, tries == 1), (limit, limit.is_zero()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_request_does_not_wait_all_over_again() {
    let retry = Retry::default();
    let outages = retry.outages();
    let contact = outages.contact("r.example");
    ask(retry, &contact, None).await.0.unwrap_err();
    let (done, tries, took) = ask(retry, &contact, None).await;
    assert!(done.is_err());
    assert_eq!((tries, took), (1, Duration::ZERO));
    let (done, _, took) = ask(retry, &outages.contact("other.example"), None).await;
    assert!(done.is_err());
    assert_eq!(took.as_secs(), 20, "another host has its own time");
    sleep(CONTINUOUS + SECOND).await;
    assert_eq!(ask(retry, &contact, None).await.2.as_secs(), 20, "much later it is another outage");
}

#[tokio::test(start_paused = true)]
async fn a_silence_that_is_noticed_late_is_followed_by_one_more_try_of_each_request() {
    let retry = Retry { first_contact: 20 * SECOND, outage: 20 * SECOND, ..Retry::default() };
    let contact = retry.outages().contact("r.example");
    let begun = Instant::now();
    sleep(30 * SECOND).await;
    for _ in 0..16 {
        let silent = || Error::new(Kind::Unavailable, "get").because(contact.outage("silent for 30 s", begun));
        let mut tries = retry.start();
        tries.wait(silent()).await.unwrap();
        assert!(tries.wait(silent()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_answers_one_request_is_tried_by_all_others_within_a_second() {
    let retry = Retry::default();
    let contact = retry.outages().contact("r.example");
    contact.answered(true);
    let back = Instant::now() + 100 * SECOND;
    let all = (0..16).map(|_| ask(retry, &contact, Some(back)));
    let took: Vec<_> = futures_util::future::join_all(all).await.into_iter().map(|(_, _, took)| took).collect();
    let (first, last) = (took.iter().min().unwrap(), took.iter().max().unwrap());
    assert!(*last - *first <= AFTER_ANSWER, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_does_not_fit_into_the_time_is_not_begun() {
    let retry = Retry { first_contact: SECOND, outage: 20 * SECOND, ..Retry::default() };
    for (pause, is_waited_for) in [(19, true), (21, false)] {
        let contact = retry.outages().contact("r.example");
        let begun = Instant::now();
        let waited = retry.start().wait(refused(&contact).retry_after(pause * SECOND)).await;
        assert_eq!((waited.is_ok(), begun.elapsed() == pause * SECOND), (is_waited_for, is_waited_for));
    }
}

fn reported(outages: &Outages) -> Arc<Mutex<Vec<OutageNews>>> {
    let heard = Arc::<Mutex<Vec<OutageNews>>>::default();
    let noted = Arc::clone(&heard);
    outages.report_to(Some(Arc::new(move |news: &OutageNews| lock(&noted).push(news.clone()))));
    heard
}

#[tokio::test(start_paused = true)]
async fn sixteen_requests_that_wait_are_reported_as_one_outage() {
    let retry = Retry::default();
    let outages = retry.outages();
    let (contact, heard) = (outages.contact("r.example"), reported(&outages));
    contact.answered(true);
    let back = Instant::now() + 120 * SECOND;
    futures_util::future::join_all((0..16).map(|_| ask(retry, &contact, Some(back)))).await;
    let heard = lock(&heard);
    assert!((3..=6).contains(&heard.len()), "{heard:#?}");
    let OutageState::Silent { why, next_try, left } = &heard[0].state else { panic!("{:?}", heard[0]) };
    assert_eq!(why, "connection refused");
    assert!(*next_try <= 2 * SECOND && *left > 590 * SECOND, "{:?}", heard[0]);
    assert!(heard.last().is_some_and(|news| news.state == OutageState::Over && news.lasted >= 120 * SECOND));
    assert_eq!(heard.iter().filter(|news| news.state == OutageState::Over).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_for_a_moment_is_no_news() {
    let retry = Retry::default();
    let outages = retry.outages();
    let (contact, heard) = (outages.contact("r.example"), reported(&outages));
    ask(retry, &contact, Some(Instant::now() + Duration::from_millis(300))).await.0.unwrap();
    assert_eq!(*lock(&heard), []);
}

#[tokio::test(start_paused = true)]
async fn the_error_says_how_long_was_waited_for() {
    let retry = Retry::default();
    let error = ask(retry, &retry.outages().contact("r.example"), None).await.0.unwrap_err();
    assert_eq!(error.chain(), "get: connection refused, for 20 s");
    assert!(is_outage(&error.during("seed", "it")));
}

#[test]
fn the_news_is_one_line() {
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    let state = OutageState::Silent { why: "connection refused".into(), next_try: SECOND / 2, left: 588 * SECOND };
    let news = OutageNews { host: "r.example".into(), since, lasted: 12 * SECOND, state };
    let line =
        "no answer from r.example since 03:04:05Z (connection refused): next try in 1 s, giving up in 9 min 48 s";
    assert_eq!(news.to_string(), line);
    let over = OutageNews { state: OutageState::Over, ..news };
    assert_eq!(over.to_string(), "r.example answers again after 12 s");
}
