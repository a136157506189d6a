//! The log of requests to a server.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::Request;
use axum::http::{Method, header};

use crate::serve::route::Route;

/// The endpoint and method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is a method on an endpoint, and says which")]
pub enum Kind {
    BlobGet,
    BlobHead,
    UploadPost,
    UploadPatch,
    UploadPut,
    UploadGet,
    UploadDelete,
    ManifestGet,
    ManifestHead,
    ManifestPut,
    ManifestDelete,
    Referrers,
    Tags,
    Ping,
    Token,
    Other,
}

impl Kind {
    fn of(method: &Method, path: &str) -> Self {
        let Ok(Some(route)) = Route::parse(path) else { return Self::Other };
        match (route, method.as_str()) {
            (Route::Blob(..), "GET") => Self::BlobGet,
            (Route::Blob(..), "HEAD") => Self::BlobHead,
            (Route::Uploads(..), "POST") => Self::UploadPost,
            (Route::Upload(..), "PATCH") => Self::UploadPatch,
            (Route::Upload(..), "PUT") => Self::UploadPut,
            (Route::Upload(..), "GET") => Self::UploadGet,
            (Route::Upload(..), "DELETE") => Self::UploadDelete,
            (Route::Manifest(..), "GET") => Self::ManifestGet,
            (Route::Manifest(..), "HEAD") => Self::ManifestHead,
            (Route::Manifest(..), "PUT") => Self::ManifestPut,
            (Route::Manifest(..), "DELETE") => Self::ManifestDelete,
            (Route::Referrers(..), "GET") => Self::Referrers,
            (Route::Tags(..), "GET") => Self::Tags,
            (Route::Ping, "GET") => Self::Ping,
            (Route::Token, "GET") => Self::Token,
            _ => Self::Other,
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `PUT`, …
    pub method: String,
    /// The endpoint and method.
    pub kind: Kind,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent; empty without one.
    pub query: String,
    /// The status of the answer; 0 while there is none, and if the connection was dropped instead.
    pub status: u16,
    /// Whether it came with an `Authorization` header.
    pub has_authorization: bool,
    /// Its `Range` header.
    pub range: Option<String>,
    /// Bytes of its body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes_out: u64,
    /// When its head had arrived.
    pub arrived: Instant,
}

/// One request in progress.
#[derive(Debug)]
pub(super) struct OpenEntry {
    first: Seen,
    status: AtomicU16,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl OpenEntry {
    pub(super) fn of(request: &Request) -> Self {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let first = Seen {
            method: method.to_string(),
            kind: Kind::of(method, uri.path()),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            status: 0,
            has_authorization: headers.contains_key(header::AUTHORIZATION),
            range: headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned),
            bytes_in: 0,
            bytes_out: 0,
            arrived: Instant::now(),
        };
        Self { first, status: AtomicU16::new(0), bytes_in: AtomicU64::new(0), bytes_out: AtomicU64::new(0) }
    }

    pub(super) fn kind(&self) -> Kind {
        self.first.kind
    }

    pub(super) fn path(&self) -> &str {
        &self.first.path
    }

    /// Whether the path or the query contains `text`.
    pub(super) fn holds(&self, text: &str) -> bool {
        self.first.path.contains(text) || self.first.query.contains(text)
    }

    pub(super) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            status: self.status.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            ..self.first.clone()
        }
    }
}
