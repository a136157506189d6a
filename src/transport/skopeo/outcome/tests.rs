//! The final output of skopeo 1.9.3, as seen in the trials; digests shortened.

use std::os::unix::process::ExitStatusExt as _;

use super::*;
use crate::transport::LocationScheme;

fn told(last_words: &str) -> Error {
    let end = |text: &str| End { reference: text.parse().unwrap(), scheme: LocationScheme::Https };
    error(last_words, ExitStatus::from_raw(256), &end("src.example/acme/app:v1"), &end("dst.example/denied/eof:v1"))
}

fn fatal(message: &str) -> Error {
    told(&format!("time=\"2026-11-21T11:23:28Z\" level=fatal msg={}\n", serde_json::to_string(message).unwrap()))
}

const SOURCE: Option<Side> = Some(Side::Source);
const DESTINATION: Option<Side> = Some(Side::Destination);

#[test]
fn access_that_was_refused() {
    for (message, side) in [
        ("initializing source docker://h/acme/app:v1: reading manifest v1 in h/acme/app: unauthorized", SOURCE),
        (
            "initializing source docker://h/acme/app:v1: unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password",
            SOURCE,
        ),
        ("initializing source docker://h/acme/app:v1: reading manifest v1 in h/acme/app: denied", SOURCE),
        (
            "copying image 1/3 from manifest list: trying to reuse blob sha256:d4 at destination: checking whether a blob sha256:d4 exists in h/x: unauthorized: authentication required",
            DESTINATION,
        ),
        (
            "copying image 1/3 from manifest list: trying to reuse blob sha256:d4 at destination: failed to read from destination repository f/x: 403 (Forbidden)",
            DESTINATION,
        ),
        (
            "copying image 1/3 from manifest list: writing blob: initiating layer upload to /v2/f/x/blobs/uploads/ in h: denied",
            DESTINATION,
        ),
    ] {
        let error = fatal(message);
        assert_eq!((error.kind(), error.side()), (Kind::Denied, side), "{message}");
        assert!(error.hint_text().unwrap().contains("login"));
    }
}

#[test]
fn what_is_not_there() {
    for message in [
        "initializing source docker://h/acme/app:nope: reading manifest nope in h/acme/app: manifest unknown: manifest unknown",
        "initializing source docker://h/acme/app:v1: reading manifest v1 in h/acme/app: name unknown: repository name not known to registry",
        "copying image 1/3 from manifest list: reading config blob sha256:74: Error fetching blob: invalid status code from registry 404 (Not Found)",
    ] {
        let error = fatal(message);
        assert_eq!((error.kind(), error.side()), (Kind::NotFound, SOURCE), "{message}");
    }
}

#[test]
fn what_may_go_better_next_time() {
    for (message, side) in [
        (
            "initializing source docker://h/acme/app:v1: unable to retrieve auth token: received unexpected HTTP status: 503 Service Unavailable",
            SOURCE,
        ),
        (
            "initializing source docker://h:1/acme/app:v1: pinging container registry h:1: Get \"http://h:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            SOURCE,
        ),
        (
            "copying image 1/3 from manifest list: trying to reuse blob sha256:d4 at destination: pinging container registry h:1: Get \"http://h:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            DESTINATION,
        ),
        (
            "initializing source docker://h/acme/app:v1: pinging container registry h: Get \"http://h/v2/\": dial tcp: lookup h on 10.0.0.1:53: no such host",
            SOURCE,
        ),
        (
            "initializing source docker://h/acme/app:v1: reading manifest v1 in h/acme/app: received unexpected HTTP status: 503 Service Unavailable",
            SOURCE,
        ),
        (
            "initializing source docker://h/acme/app:v1: reading manifest v1 in h/acme/app: toomanyrequests: rate",
            SOURCE,
        ),
        (
            "copying image 1/3 from manifest list: reading config blob sha256:74: Error fetching blob: invalid status code from registry 500 (Internal Server Error)",
            SOURCE,
        ),
        (
            "copying image 1/3 from manifest list: writing blob: uploading layer chunked: received unexpected HTTP status: 500 Internal Server Error",
            DESTINATION,
        ),
        (
            "copying image 1/3 from manifest list: writing blob: Patch \"http://h/v2/f/x/blobs/uploads/1?_state=S\": readfrom tcp 127.0.0.1:4->127.0.0.1:5: happened during read: unexpected EOF",
            SOURCE,
        ),
        (
            "copying image 1/3 from manifest list: writing blob: Patch \"http://h/v2/f/x/blobs/uploads/1?_state=S\": readfrom tcp 127.0.0.1:4->127.0.0.1:5: happened during read: read tcp 127.0.0.1:3->127.0.0.1:6: read: connection reset by peer",
            SOURCE,
        ),
    ] {
        let error = fatal(message);
        assert_eq!((error.kind(), error.side()), (Kind::Unavailable, side), "{message}");
    }
}

#[test]
fn content_that_lies_is_the_sources() {
    for message in [
        "copying image 1/3 from manifest list: writing blob: Patch \"http://h/v2/f/x/blobs/uploads/5?_state=X\": readfrom tcp 127.0.0.1:3->127.0.0.1:5: happened during read: Digest did not match, expected sha256:c9, got sha256:11",
        "copying image 1/3 from manifest list: determining manifest MIME type for docker://h/acme/app:v1: Manifest does not match provided manifest digest sha256:16",
        "Digest of source image's manifest would not match destination reference",
    ] {
        let error = fatal(message);
        assert_eq!((error.kind(), error.side()), (Kind::Corrupt, SOURCE), "{message}");
    }
}

#[test]
fn refusals_of_other_sorts() {
    for (message, kind, side) in [
        (
            "copying image 1/2 from manifest list: Unexpectedly received a manifest list instead of a manifest for a single image",
            Kind::Unsupported,
            SOURCE,
        ),
        (
            "copying image 1/3 from manifest list: writing blob: initiating layer upload to /v2/f/x/blobs/uploads/ in h: unsupported",
            Kind::Unsupported,
            DESTINATION,
        ),
        ("Invalid source name docker://[::1]:5711/acme/app:v1: invalid reference format", Kind::Unsupported, SOURCE),
        (
            "copying image 1/3 from manifest list: writing manifest: uploading manifest sha256:16 to h/f/x: manifest invalid",
            Kind::Invalid,
            DESTINATION,
        ),
        (
            "copying image 1/3 from manifest list: writing manifest: uploading manifest sha256:16 to h/f/x: manifest blob unknown: blob unknown to registry",
            Kind::Incomplete,
            DESTINATION,
        ),
        (
            "initializing source docker://h/acme/app:v1: pinging container registry h: Get \"https://h/v2/\": x509: certificate signed by unknown authority",
            Kind::Invalid,
            SOURCE,
        ),
        (
            "initializing source docker://h/acme/app:v1: pinging container registry h: Get \"https://h/v2/\": http: server gave HTTP response to HTTPS client",
            Kind::Usage,
            SOURCE,
        ),
        (
            "copying system image from manifest list: Source image rejected: Running image docker://h/acme/app:v1 is rejected by policy.",
            Kind::Untrusted,
            SOURCE,
        ),
        ("Error loading trust policy: open /etc/containers/policy.json: no such file or directory", Kind::Local, None),
        ("writing blob: open /var/tmp/x: no space left on device", Kind::Local, DESTINATION),
    ] {
        let error = fatal(message);
        assert_eq!((error.kind(), error.side()), (kind, side), "{message}");
    }
}

#[test]
fn names_are_not_taken_for_causes() {
    let error = fatal(
        "initializing source docker://h/denied/eof:unauthorized: reading manifest unauthorized in h/denied/eof: odd",
    );
    assert_eq!(error.kind(), Kind::Local);
}

#[test]
fn the_cause_stands_there_without_secrets_and_escapes() {
    let error = fatal(
        "reading blob: Get \"https://cdn.example/x?X-Amz-Signature=c2VjcmV0\": dial tcp: \u{1b}[31mconnection refused",
    );
    assert_eq!(
        error.chain(),
        "source: copy with skopeo src.example/acme/app:v1: reading blob: Get \"https://cdn.example/x\": dial tcp: \\u{1b}[31mconnection refused"
    );
    assert!(fatal(&"x".repeat(9_000)).chain().len() < 1_200);
}

#[test]
fn a_program_that_says_nothing_or_something_else_is_a_local_failure() {
    let error = told("");
    assert_eq!(error.chain(), "copy with skopeo dst.example/denied/eof:v1: it ended with exit status: 1");
    let error = told("time=\"t\" level=warning msg=\"odd\"\npanic: runtime error\n\n");
    assert_eq!(error.kind(), Kind::Local);
    assert!(error.chain().ends_with("panic: runtime error"), "{}", error.chain());
}
