//! The profiles of the embedded registry against the registries that they imitate: each row of a table of observed
//! behaviour, requested from both over a bare connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use serde_json::json;

use crate::Case;
use crate::copies::block_on;
use crate::peers::{Kind, Peers, Server};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the mode of distribution 2.8 acts as distribution 2.8",
        needs: &["docker-registry"],
        run: |peers| beside(peers, Kind::Distribution2, Profile::distribution_2()),
    },
    Case {
        name: "the mode of distribution 3 acts as distribution 3",
        needs: &["registry3"],
        run: |peers| beside(peers, Kind::Distribution3, Profile::distribution_3()),
    },
    Case {
        name: "the mode of zot acts as zot",
        needs: &["zot"],
        run: |peers| beside(peers, Kind::Zot, Profile::zot()),
    },
];

const CONTENT: &[u8] = b"0123456789";

fn beside(peers: &Peers, kind: Kind, behaviour: Profile) {
    let real = Server::start(peers, kind);
    let theirs = rows(&real.host);
    let ours = block_on(async {
        let bed = Testbed::with(behaviour).await;
        rows(bed.host())
    });
    for ((row, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        println!("table: mode {:<16} {row:<44} real {theirs:<22} ours {ours}", kind.name());
    }
    assert_eq!(ours, theirs);
}

/// An answer.
struct Said {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Said {
    fn header(&self, name: &str) -> String {
        let of = |line: &str| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(of).unwrap_or_default()
    }

    /// The status, and the error code of the body.
    fn code(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match document["errors"][0]["code"].as_str() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// One request on a connection of its own, with head and body as given. None if there is no answer.
fn send(host: &str, head: &str, body: &[u8], is_answered: bool) -> Option<Said> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(format!("{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    if !is_answered {
        return None;
    }
    let mut all = Vec::new();
    // An answer shorter than its Content-Length ends with the connection.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    Some(Said { status: head.get(9..12)?.parse().ok()?, head, body: all.split_off(end + 4) })
}

fn ask(host: &str, line: &str, headers: &str, body: &[u8]) -> Said {
    let length = if body.is_empty() && line.starts_with("GET") {
        String::new()
    } else {
        format!("\r\nContent-Length: {}", body.len())
    };
    send(host, &format!("{line} HTTP/1.1{headers}{length}"), body, true).unwrap()
}

/// The location of an upload session, without scheme and host.
fn begin(host: &str) -> String {
    let location = ask(host, "POST /v2/app/blobs/uploads/", "", b"").header("location");
    location.strip_prefix(&format!("http://{host}")).map(str::to_owned).unwrap_or(location)
}

fn closing(session: &str, bytes: &[u8]) -> String {
    let separator = if session.contains('?') { '&' } else { '?' };
    format!("{session}{separator}digest={}", Digest::sha256(bytes))
}

fn push(host: &str, bytes: &[u8]) -> Digest {
    let said = ask(host, &format!("PUT {}", closing(&begin(host), bytes)), "", bytes);
    assert_eq!(said.status, 201, "{}", said.head);
    Digest::sha256(bytes)
}

fn put_manifest(host: &str, name: &str, media_type: &MediaType, text: &str) -> Said {
    ask(host, &format!("PUT /v2/app/manifests/{name}"), &format!("\r\nContent-Type: {media_type}"), text.as_bytes())
}

/// The rows of the table, with the behaviour of `host`.
fn rows(host: &str) -> Vec<(&'static str, String)> {
    let known = push(host, CONTENT);
    let absent = Digest::sha256(b"nowhere");
    let mut rows = uploads(host);
    let mut mount = |row, repository: &str, query: String| {
        let said = ask(host, &format!("POST /v2/{repository}/blobs/uploads/?{query}"), "", b"");
        rows.push((row, said.status.to_string()));
    };
    mount("mount from itself, present", "app", format!("mount={known}&from=app"));
    mount("mount from itself, absent", "app", format!("mount={absent}&from=app"));
    mount("mount from a repository that does not exist", "new", format!("mount={known}&from=nowhere"));
    mount("mount from nowhere said", "newer", format!("mount={known}"));
    let single = format!("POST /v2/app/blobs/uploads/?digest={}", Digest::sha256(b"single"));
    let octets = "\r\nContent-Type: application/octet-stream";
    rows.push(("one POST with everything", ask(host, &single, octets, b"single").status.to_string()));
    let past = ask(host, &format!("GET /v2/app/blobs/{known}"), "\r\nRange: bytes=99-", b"");
    // Distribution 3 adds a reason in a body of its own; the check is that Content-Length is not that body's length.
    let is_short = past.header("content-length") != past.body.len().to_string();
    rows.push(("range past the end", format!("{} {}", past.status, if is_short { "cut short" } else { "whole" })));
    let referrers = ask(host, &format!("GET /v2/app/referrers/{absent}"), "", b"");
    rows.push(("referrers", referrers.status.to_string()));
    rows.extend(manifests(host, known));
    rows
}

fn uploads(host: &str) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for (row, method) in [("cut inside a PATCH, then asked", "PATCH"), ("cut inside a PUT, then asked", "PUT")] {
        let session = begin(host);
        let path = if method == "PUT" { closing(&session, CONTENT) } else { session.clone() };
        send(host, &format!("{method} {path} HTTP/1.1\r\nContent-Length: 10"), &CONTENT[..4], false);
        std::thread::sleep(Duration::from_millis(500));
        let told = ask(host, &format!("GET {session}"), "", b"");
        rows.push((row, format!("{} {}", told.status, told.header("range"))));
    }
    let chunk = ask(host, &format!("PATCH {}", begin(host)), "\r\nContent-Range: 5-9", b"56789");
    rows.push(("a chunk that begins elsewhere", chunk.status.to_string()));
    let head = format!("PUT {} HTTP/1.1\r\nTransfer-Encoding: chunked", closing(&begin(host), b"chunked"));
    let unsized_put = send(host, &head, b"7\r\nchunked\r\n0\r\n\r\n", true);
    rows.push(("a closing PUT of no told length", unsized_put.map_or(0, |said| said.status).to_string()));
    rows
}

fn manifests(host: &str, known: Digest) -> Vec<(&'static str, String)> {
    let config = Descriptor::new(MediaType::OCI_CONFIG, known, CONTENT.len() as u64);
    let missing = Descriptor::new(MediaType::OCI_LAYER, Digest::sha256(b"nowhere"), 7);
    let image = |layers: &[&Descriptor], salt: &str| {
        let annotations = json!({"salt": salt});
        let (kind, version) = (MediaType::OCI_MANIFEST, 2);
        json!({"schemaVersion": version, "mediaType": kind, "config": config, "layers": layers, "annotations": annotations})
            .to_string()
    };
    let child = Descriptor { media_type: MediaType::OCI_MANIFEST, ..missing.clone() };
    let sparse = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [child]}).to_string();
    let first = image(&[], "first");
    let of = |said: Said| said.code();
    vec![
        (
            "an image whose layer is missing",
            of(put_manifest(host, "x", &MediaType::OCI_MANIFEST, &image(&[&missing], "x"))),
        ),
        ("an index whose child is missing", of(put_manifest(host, "y", &MediaType::OCI_INDEX, &sparse))),
        ("an image", of(put_manifest(host, "v1", &MediaType::OCI_MANIFEST, &first))),
        ("another one under its tag", of(put_manifest(host, "v1", &MediaType::OCI_MANIFEST, &image(&[], "next")))),
        ("the former one, by its digest", {
            let accept = format!("\r\nAccept: {}", MediaType::OCI_MANIFEST);
            let path = format!("GET /v2/app/manifests/{}", Digest::sha256(first.as_bytes()));
            ask(host, &path, &accept, b"").status.to_string()
        }),
    ]
}
