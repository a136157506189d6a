//! The layer around the server: logs requests, and injects the planned faults.

use std::sync::{Arc, Mutex};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::middleware::Next;

use super::fault::{Fault, What};
use super::inject::{is_broken, overstated, strike};
use super::log::{OpenEntry, Seen};
use super::random_faults::Weather;
use super::streams::{add, counted, incoming};
use crate::serve::Profile;
use crate::sync::lock;

/// The log and the faults of one server.
#[derive(Debug, Default)]
pub(super) struct Script {
    log: Mutex<Vec<Arc<OpenEntry>>>,
    faults: Mutex<Vec<Pending>>,
    weather: Mutex<Option<Weather>>,
    overstates_unsatisfiable: bool,
}

#[derive(Debug)]
struct Pending {
    fault: Fault,
    /// Matching requests so far.
    met: u32,
}

impl Script {
    pub(super) fn new(behaviour: &Profile) -> Self {
        Self { overstates_unsatisfiable: behaviour.overstates_unsatisfiable, ..Self::default() }
    }

    pub(super) fn log(&self) -> Vec<Seen> {
        lock(&self.log).iter().map(|entry| entry.seen()).collect()
    }

    pub(super) fn clear(&self) {
        lock(&self.log).clear();
    }

    pub(super) fn add(&self, fault: Fault) {
        lock(&self.faults).push(Pending { fault, met: 0 });
    }

    pub(super) fn heal(&self) {
        lock(&self.faults).clear();
        *lock(&self.weather) = None;
    }

    pub(super) fn set(&self, weather: Weather) {
        *lock(&self.weather) = Some(weather);
    }

    fn record(&self, request: &Request) -> Arc<OpenEntry> {
        let entry = Arc::new(OpenEntry::of(request));
        lock(&self.log).push(Arc::clone(&entry));
        entry
    }

    /// Returns the fault for this request: the first planned one that is due, else a random one. Every planned fault
    /// that matches the request counts it.
    fn draw(&self, entry: &OpenEntry) -> Option<What> {
        let mut drawn = None;
        for Pending { fault, met } in lock(&self.faults).iter_mut() {
            let is_meant = fault.on == entry.kind()
                && fault.path_contains.as_ref().is_none_or(|text| entry.holds(text))
                && fault.path_ends.as_ref().is_none_or(|text| entry.path().ends_with(text.as_str()));
            if is_meant {
                *met += 1;
                let is_due = *met >= fault.nth && *met - fault.nth < fault.times;
                drawn = drawn.or_else(|| is_due.then(|| fault.what.clone()));
            }
        }
        drawn.or_else(|| lock(&self.weather).as_mut()?.draw())
    }
}

/// Handles one request.
pub(super) async fn intercept(State(script): State<Arc<Script>>, request: Request, next: Next) -> Response<Body> {
    let entry = script.record(&request);
    let what = script.draw(&entry);
    let (head, body) = request.into_parts();
    let after = if let Some(What::CutRequest { after }) = what { after } else { u64::MAX };
    let body = Body::from_stream(incoming(body, Arc::clone(&entry), after));
    let request = Request::from_parts(head, body);
    let mut answer = match what {
        None => next.run(request).await,
        Some(what) => strike(what, request, next).await,
    };
    if script.overstates_unsatisfiable && answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        answer = overstated(answer);
    }
    if !is_broken(&answer) {
        entry.answered(answer.status().as_u16());
    }
    // Streams have no known length; the header gives the length that the server would have sent.
    let length = answer.body().size_hint().exact();
    if length != Some(0) {
        if let Some(length) = length.filter(|_| !answer.headers().contains_key(header::CONTENT_LENGTH)) {
            answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        let count = Arc::clone(&entry);
        return answer.map(|body| Body::from_stream(counted(body, move |n| add(&count.bytes_out, n))));
    }
    answer
}
