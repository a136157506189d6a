//! One cell: two servers, one fault, one seed, and a check of the result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use autonomy_registry::Kind as Failure;
use autonomy_registry::copy::Events;
use autonomy_registry::oci::{Digest, Name};
use autonomy_registry::retry::Retry;
use autonomy_registry::serve::testkit::{Fault, Kind, Seen, Testbed, What};
use autonomy_registry::store::Store as _;
use autonomy_registry::transport::Native;
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{self, Journal, Trust};
use jiff::Timestamp;

use super::field::{self, Source};
use super::{On, Wrong};

/// Longest time for a cell on a busy machine; a longer one counts as a hang.
const LIMIT: Duration = Duration::from_secs(240);

/// Result of a cell.
#[derive(Debug)]
pub(super) struct Outcome {
    /// `done`, the kind of failure, or `-` where there is no such cell.
    pub(super) told: &'static str,
    /// The error with its sources.
    pub(super) chain: String,
    /// Violations of the rules.
    pub(super) amiss: Vec<String>,
}

impl Outcome {
    pub(super) fn none() -> Self {
        Self { told: "-", chain: String::new(), amiss: Vec::new() }
    }

    pub(super) fn is_some(&self) -> bool {
        self.told != "-"
    }
}

/// A fault, ready for its seed.
pub(super) struct Cell {
    name: String,
    wrong: Wrong,
    kind: Kind,
    /// A part of the request's path and query.
    at: String,
    is_at_the_source: bool,
    field: Arc<Source>,
    source: Testbed,
    sink: Testbed,
    /// The target of redirects, in cells about one.
    other: Option<Testbed>,
    former: Option<Digest>,
    /// The `Retry-After` date of a busy server.
    date: Instant,
}

impl On {
    /// The side and the kind of the request, and a part of its path.
    fn request(self, field: &Source) -> (bool, Kind, String) {
        let (layer, child) = (field.layer.digest.to_string(), field.child.digest.to_string());
        match self {
            Self::BlobGet => (true, Kind::BlobGet, layer),
            Self::BlobHead => (false, Kind::BlobHead, layer),
            Self::Post => (false, Kind::UploadPost, layer),
            Self::BlobPut => (false, Kind::UploadPut, layer),
            Self::TagGet => (true, Kind::ManifestGet, "/manifests/v1".into()),
            Self::ManifestGet => (true, Kind::ManifestGet, child),
            Self::TagHead => (false, Kind::ManifestHead, "/manifests/v1".into()),
            Self::ManifestPut => (false, Kind::ManifestPut, child),
            Self::TagPut => (false, Kind::ManifestPut, "/manifests/v1".into()),
            Self::Referrers => (true, Kind::Referrers, field.root.digest.to_string()),
            Self::Token => (true, Kind::Token, String::new()),
        }
    }

    fn is_write(self) -> bool {
        matches!(self, Self::Post | Self::BlobPut | Self::ManifestPut | Self::TagPut)
    }

    /// The direction of the body, if there is one.
    fn body(self) -> Way {
        match self {
            Self::BlobGet | Self::TagGet | Self::ManifestGet | Self::Referrers | Self::Token => Way::Answer,
            Self::BlobPut | Self::ManifestPut | Self::TagPut => Way::Request,
            Self::BlobHead | Self::TagHead | Self::Post => Way::None,
        }
    }

    fn flip(self, field: &Source) -> What {
        match self {
            // The digest stays valid or becomes invalid; the session matches no open one.
            Self::BlobHead | Self::TagHead => What::FlipHeaderBit("docker-content-digest"),
            Self::Post => What::FlipHeaderBit("location"),
            Self::BlobPut => What::FlipRequestBit { at: 100 },
            Self::ManifestPut => What::FlipRequestBit { at: 40 },
            // The index still lists the same manifests: it is valid, but it is another one.
            Self::TagPut => What::FlipRequestBit { at: field.first_size },
            Self::TagGet | Self::ManifestGet => What::FlipBit { at: 40 },
            Self::BlobGet => What::FlipBit { at: 100 },
            // No digest covers a list or a token: only invalid JSON is detected as damage.
            Self::Referrers | Self::Token => What::FlipBit { at: 0 },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Answer,
    Request,
    None,
}

impl Wrong {
    /// The fault, and its number of repetitions. None where the fault does not apply.
    fn what(self, on: On, field: &Source, other: Option<&Testbed>, date: Timestamp) -> Option<(What, u32)> {
        const ALWAYS: u32 = u32::MAX;
        let busy = |retry_after: String| What::StatusWith { status: 429, retry_after: Some(retry_after) };
        Some(match self {
            Self::UnavailableOnce => (What::Status(503), 1),
            Self::UnavailableThrice => (What::Status(503), 3),
            Self::UnavailableAlways => (What::Status(503), ALWAYS),
            Self::BusySeconds => (busy("1".into()), 1),
            Self::BusyDate => (busy(http_date(date)), 1),
            Self::ResetBefore => (What::ResetBefore, 1),
            Self::ResetInside => match on.body() {
                Way::Answer => (What::CutBody { after: 20 }, 1),
                Way::Request => (What::CutRequest { after: 100 }, 1),
                Way::None => return None,
            },
            Self::ResetAfter if on.is_write() => (What::ResetAfter, 1),
            // A response that was read completely is not harmed when the connection closes.
            Self::ResetAfter => (What::SetHeader { name: "connection", value: "close".into() }, 1),
            Self::Slow if on.body() == Way::Answer => (What::Trickle { after: 20, bytes_per_second: 4000 }, 1),
            Self::Slow => (What::Delay(Duration::from_millis(300)), 1),
            Self::LengthOnce => (What::WrongLength, 1),
            Self::LengthAlways => (What::WrongLength, ALWAYS),
            Self::FlipOnce => (on.flip(field), 1),
            // A PUT by tag tags whatever arrives: no request can prevent that.
            Self::FlipAlways if on == On::TagPut => return None,
            Self::FlipAlways => (on.flip(field), ALWAYS),
            Self::Redirect => (What::Redirect { status: 307, to: format!("http://{}", other?.host()) }, 1),
            Self::HtmlOnce => (What::Html, 1),
            Self::HtmlAlways => (What::Html, ALWAYS),
        })
    }
}

/// A date in the form of `Retry-After` (RFC 9110, section 5.6.7).
fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
}

impl Cell {
    /// Sets up the servers and the fault. None where the fault does not apply.
    pub(super) async fn set(on: On, wrong: Wrong, field: &Arc<Source>) -> Option<Self> {
        let (mode, folder) = (field.mode, field.folder.path());
        let (is_at_the_source, kind, at) = on.request(field);
        let other = match (wrong, is_at_the_source) {
            (Wrong::Redirect, true) => Some(Testbed::over(folder, mode.open()).await),
            (Wrong::Redirect, false) => Some(Testbed::with(mode.open()).await),
            _ => None,
        };
        // One to two seconds from now: dates have whole seconds.
        let date = Timestamp::from_second(Timestamp::now().as_second() + 2).unwrap();
        let (what, times) = wrong.what(on, field, other.as_ref(), date)?;
        let until_then = Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default();
        let date = Instant::now() + until_then;
        // Logins everywhere: they must not leak to another host, and every kind of request carries one.
        let source = Testbed::over(folder, mode.guarded()).await;
        let sink = Testbed::with(mode.guarded()).await;
        let site = sink.layout("site/app");
        let mut former = None;
        if on == On::TagHead {
            former = Some(field::former().put(&site, &["v1".parse().unwrap()]).await.digest);
        }
        if on == On::BlobHead {
            sink.fault(Fault::always(Kind::UploadPost, What::Status(405)).at("mount="));
            let bytes = Testbed::over(folder, mode.open()).await.layout("app");
            let body = autonomy_registry::store::Body::stored(field.layer.clone(), Arc::new(bytes));
            site.put(&field.layer, &body, &[]).await.unwrap();
        }
        let bed = if is_at_the_source { &source } else { &sink };
        bed.fault(Fault::next(kind, what).at(&*at).times(times));
        let (name, field) = (format!("{on:?} {wrong:?} {mode:?}"), Arc::clone(field));
        Some(Self { name, wrong, kind, at, is_at_the_source, field, source, sink, other, former, date })
    }

    /// Runs the seed.
    pub(super) async fn run(self) -> Outcome {
        let out = tempfile::tempdir().unwrap();
        // A fault that stays is not waited for long; a pause of two seconds must fit in.
        let stays = matches!(self.wrong, Wrong::UnavailableAlways | Wrong::LengthAlways | Wrong::HtmlAlways);
        let outage = Duration::from_millis(if stays { 200 } else { 10_000 });
        let retry = Retry { first_pause: Duration::from_millis(2), first_contact: outage, outage, ..Retry::default() };
        let client = Client::new(ClientOptions { allow_plain_http: true, retry, ..ClientOptions::default() }).unwrap();
        let demands = Box::new(self.field.demands.clone());
        let trust = Trust::Verify { demands, key: "cosign.pub".into() };
        let seed = field::seed(&self.source, &self.sink, trust, out.path());
        let (journal, events) = (Journal::none(), Events::none());
        let seeding = tokio::time::timeout(LIMIT, workflow::seed(&seed, &client, &journal, &Native, &events));
        let Ok(done) = seeding.await else { panic!("{}: it hangs", self.name) };
        client.settle(Duration::from_secs(5)).await;
        let written = std::fs::read_dir(out.path()).unwrap().count();
        let (told, chain) = match &done {
            Ok(_) => ("done", String::new()),
            Err(error) => (word(error.kind()), error.chain()),
        };
        let mut amiss = self.left(done.is_ok(), written).await;
        if let Err(error) = &done {
            let code = if error.kind() == Failure::Untrusted { 3 } else { 4 };
            note(&mut amiss, error.kind().exit_code() == code, || format!("exit code {}", error.kind().exit_code()));
        }
        Outcome { told, chain, amiss }
    }

    /// Lists violations of the rules after the run.
    async fn left(&self, is_done: bool, written: usize) -> Vec<String> {
        let mut amiss = Vec::new();
        let bed = if self.is_at_the_source { &self.source } else { &self.sink };
        let log = bed.log();
        let is_meant =
            |seen: &&Seen| seen.kind == self.kind && format!("{}?{}", seen.path, seen.query).contains(&self.at);
        let asked: Vec<_> = log.iter().filter(is_meant).map(|seen| seen.arrived).collect();
        note(&mut amiss, !asked.is_empty(), || "the fault befell nothing".into());
        let not_before = match self.wrong {
            Wrong::BusySeconds => asked.first().map(|first| *first + Duration::from_secs(1)),
            Wrong::BusyDate => Some(self.date),
            _ => None,
        };
        if let Some(not_before) = not_before {
            // Server and client read their clocks one after the other.
            let again = asked.get(1).map(|again| *again + Duration::from_millis(20));
            note(&mut amiss, again.is_some_and(|again| again >= not_before), || {
                "asked again too soon, or never".into()
            });
        }
        if let Some(other) = &self.other {
            note(&mut amiss, other.requests() > 0, || "nobody went to the other host".into());
            let has_leaked = other.log().iter().any(|seen| seen.has_authorization);
            note(&mut amiss, !has_leaked, || "the other host was shown a login".into());
        }
        let named = self.sink.layout("site/app").resolve(&Name::Tag("v1".parse().unwrap())).await;
        let named = named.ok().map(|root| root.digest);
        let (held, damaged) = field::held(self.sink.data_dir());
        note(&mut amiss, damaged.is_empty(), || format!("not what they are named: {damaged:?}"));
        if is_done {
            note(&mut amiss, named == Some(self.field.root.digest), || format!("the tag names {named:?}"));
            let absent: Vec<_> = self.field.digests.difference(&held).collect();
            note(&mut amiss, absent.is_empty(), || format!("not there: {absent:?}"));
            note(&mut amiss, written == 2, || format!("{written} documents"));
        } else {
            note(&mut amiss, named == self.former, || format!("the tag names {named:?}"));
            note(&mut amiss, written == 0, || format!("{written} documents"));
        }
        amiss
    }
}

fn note(amiss: &mut Vec<String>, is_right: bool, what: impl FnOnce() -> String) {
    if !is_right {
        amiss.push(what());
    }
}

fn word(kind: Failure) -> &'static str {
    match kind {
        Failure::Unavailable => "unavailable",
        Failure::Corrupt => "corrupt",
        Failure::Invalid => "invalid",
        Failure::Denied => "denied",
        Failure::NotFound => "not-found",
        Failure::Incomplete => "incomplete",
        Failure::Untrusted => "untrusted",
        Failure::Unsupported => "unsupported",
        _ => "other",
    }
}
