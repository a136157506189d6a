//! The access log of `registry serve`: one JSON object a line for each request.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Result, printable};
use crate::http_server::line_log::{LineLog, LineTarget};
use crate::oci::{Digest, Name};
use crate::serve::{AccessLog, AccessRecord, Route};

/// Writes a line for each request.
#[derive(Debug)]
pub(super) struct JsonAccessLog(LineLog);

/// A line. Holds no secrets, as the record that it is made of.
#[derive(Debug, Serialize)]
struct AccessLine<'a> {
    time: String,
    client: String,
    user: Option<&'a str>,
    method: &'a str,
    /// The kind of the endpoint; null for a path that is none.
    endpoint: Option<&'static str>,
    repository: Option<&'a str>,
    /// The tag.
    tag: Option<&'a str>,
    digest: Option<Digest>,
    bytes: u64,
    /// Null if the client was gone before there was an answer.
    status: Option<u16>,
}

/// A line in the place of lines that were lost.
#[derive(Debug, Serialize)]
struct LostLines {
    time: String,
    lost: u64,
}

impl JsonAccessLog {
    /// Opens the file, or stdout for `-`.
    ///
    /// # Errors
    ///
    /// [`Local`](crate::Kind::Local) if the file cannot be written.
    pub(super) fn open(path: &std::path::Path) -> Result<Self> {
        let target = if path.as_os_str() == "-" { LineTarget::Stdout } else { LineTarget::File(path.to_owned()) };
        LineLog::start(target, lost).map(Self)
    }

    /// Opens the file again: another program has renamed it.
    pub(super) fn reopen(&self) {
        self.0.reopen();
    }

    /// Writes the lines that wait.
    pub(super) async fn end(&self) {
        self.0.end().await;
    }
}

#[async_trait]
impl AccessLog for JsonAccessLog {
    fn record(&self, record: &AccessRecord) {
        // Plain fields are always JSON.
        if let Ok(text) = serde_json::to_string(&line(record, now())) {
            self.0.write(text);
        }
    }

    /// Waits for nothing: this log is no evidence, and a slow disk of logs must not slow down pushes.
    async fn flush(&self) {}
}

fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

fn lost(lost: u64) -> String {
    serde_json::to_string(&LostLines { time: now(), lost }).unwrap_or_else(|why| printable(&why.to_string()))
}

fn line(record: &AccessRecord, time: String) -> AccessLine<'_> {
    let (endpoint, repository, named) = match &record.route {
        None => (None, None, None),
        Some(route) => parts(route),
    };
    AccessLine {
        time,
        client: record.from.to_string(),
        user: record.user.as_deref(),
        method: &record.method,
        endpoint,
        repository,
        tag: match &record.route {
            Some(Route::Manifest(_, Name::Tag(tag))) => Some(tag.as_str()),
            _ => None,
        },
        digest: record.digest.or(named),
        bytes: record.bytes,
        status: record.status,
    }
}

/// Returns the kind of an endpoint, its repository, and the digest that it names.
fn parts(route: &Route) -> (Option<&'static str>, Option<&str>, Option<Digest>) {
    let (kind, repository, digest) = match route {
        Route::Ping => ("ping", None, None),
        Route::Catalog => ("catalog", None, None),
        Route::Token => ("token", None, None),
        Route::Health => ("healthz", None, None),
        Route::Ready => ("readyz", None, None),
        Route::Metrics => ("metrics", None, None),
        Route::Blob(repository, digest) => ("blob", Some(repository), Some(*digest)),
        Route::Uploads(repository) | Route::Upload(repository, _) => ("upload", Some(repository), None),
        Route::Manifest(repository, Name::Digest(digest)) => ("manifest", Some(repository), Some(*digest)),
        Route::Manifest(repository, Name::Tag(_)) => ("manifest", Some(repository), None),
        Route::Tags(repository) => ("tags", Some(repository), None),
        Route::Referrers(repository, subject) => ("referrers", Some(repository), Some(*subject)),
    };
    (Some(kind), repository.map(|path| path.as_str()), digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_of_the_contract_and_no_name_of_an_upload() {
        let digest = Digest::sha256(b"x");
        let path = || "team/app".parse().unwrap();
        let record = |route, digest| AccessRecord {
            from: "192.0.2.7".parse().unwrap(),
            user: Some("ann \"\n".to_owned()),
            refused_user: Some("a token in the wrong place".to_owned()),
            method: "PUT".to_owned(),
            route: Some(route),
            digest,
            status: Some(201),
            bytes: 5,
        };
        let told = |record: &AccessRecord| serde_json::to_string(&line(record, "T".to_owned())).unwrap();
        let tagged = record(Route::Manifest(path(), Name::Tag("v1".parse().unwrap())), Some(digest));
        assert_eq!(
            told(&tagged),
            format!(
                r#"{{"time":"T","client":"192.0.2.7","user":"ann \"\n","method":"PUT","endpoint":"manifest","repository":"team/app","tag":"v1","digest":"{digest}","bytes":5,"status":201}}"#
            )
        );
        let blob = told(&record(Route::Blob(path(), digest), None));
        assert!(blob.contains(&digest.to_string()) && blob.contains(r#""tag":null"#), "{blob}");
        let upload = told(&record(Route::Upload(path(), "secret".to_owned()), None));
        assert!(!upload.contains("secret") && !upload.contains("wrong place"), "{upload}");
    }

    #[test]
    fn times_have_milliseconds_and_are_in_utc() {
        let time = now();
        assert!(time.len() == "2026-05-25T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    }
}
