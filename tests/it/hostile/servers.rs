//! Malicious servers, on either side: endless responses end, circular redirects end, and compressed responses are not
//! decompressed. Memory stays small, and nothing is tagged or written.
//!
//! Signatures, lists and documents are covered by `limits` and `sources`; this module covers HTTP itself.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::serve::{Profile, ServerAuth};
use testkit::images;

use crate::kit::command::{assert_code, each_at_once, publisher, text};
use crate::kit::resident::{self, MAX_RESIDENT};
use crate::kit::wire_server::{Server, answer, status};

/// Longest time for a run on a busy machine; a run that takes longer does not give up.
const PATIENCE: Duration = Duration::from_secs(240);

/// Result of a run.
pub(crate) struct Run {
    pub(crate) output: Output,
    /// Peak memory, in bytes.
    resident: u64,
    took: Duration,
    /// Names of the files that it wrote.
    written: Vec<String>,
}

impl Run {
    /// Asserts the bounds that hold against any server.
    #[track_caller]
    pub(crate) fn bounded(&self, what: &str, code: i32) {
        assert_code(&self.output, code);
        // A program that ends at once may end unmeasured; it had no time to take much memory.
        let is_seen = self.resident > 0 || self.took < Duration::from_secs(2) || !cfg!(target_os = "linux");
        assert!(is_seen, "{what}: nothing was measured");
        assert!(self.resident < MAX_RESIDENT, "{what}: {} bytes", self.resident);
        assert!(self.took < PATIENCE, "{what}: {:?}", self.took);
        assert_eq!(self.written.is_empty(), code != 0, "{what}: {:?}", self.written);
    }
}

/// Seeds the image of one host into another.
pub(crate) async fn seed(from: &str, to: &str, more: &[&str]) -> Run {
    let out = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{from}/app:v1"), format!("{to}/app:v1"));
    let begun = Instant::now();
    let (output, resident) = resident::seed(&from, &to, out.path(), &[&["--skip-verify"], more].concat()).await;
    let names = std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let written = names.map(|name| name.to_string_lossy().into_owned()).collect();
    Run { output, resident, took: begun.elapsed(), written }
}

/// A source with an image of two platforms.
pub(crate) async fn source() -> Testbed {
    source_to(ServerAuth::None).await
}

async fn source_to(auth: ServerAuth) -> Testbed {
    let bed = Testbed::with(Profile { auth, ..Profile::default() }).await;
    let root = images::two_platforms(&publisher(&bed, "app"), 1, &[100, 200]).await;
    images::tag(&publisher(&bed, "app"), &root, "v1").await;
    bed.clear_log();
    bed
}

fn tags(bed: &Testbed) -> usize {
    bed.log().iter().filter(|seen| seen.method == "PUT" && seen.path.ends_with("/manifests/v1")).count()
}

/// A server that answers every request with the same raw bytes and closes. It hangs up on TLS clients.
pub(crate) fn raw(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), std::sync::Arc::clone(&answer));
            std::thread::spawn(move || {
                let (mut request, mut piece) = (Vec::new(), [0; 1024]);
                while !request.ends_with(b"\r\n\r\n") && request.first() != Some(&0x16) {
                    match stream.read(&mut piece) {
                        Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
                        _ => return,
                    }
                }
                let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
                let _ = answer(&line, &mut stream);
            });
        }
    });
    host
}

/// Writes `unit` until this many MiB are sent.
fn flood(stream: &mut TcpStream, head: &str, unit: &[u8], mib: usize) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    let piece = unit.repeat((64 << 10) / unit.len());
    (0..16 * mib).try_for_each(|_| stream.write_all(&piece))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_64_mebibytes_are_left() {
    let (good, sink) = (source().await, Testbed::start().await);
    let line = [&b"X-Header: "[..], &[b'x'; 1000], b"\r\n"].concat();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases: &[(&str, String, &[u8], usize)] = &[
        ("64 MiB of headers", "HTTP/1.1 200 OK\r\n".into(), &line, 64),
        ("64 MiB of small headers", "HTTP/1.1 200 OK\r\n".into(), b"a:\r\n", 64),
        ("a header of 64 MiB", "HTTP/1.1 200 OK\r\nX: ".into(), b"x", 64),
        ("a header's name of 64 MiB", "HTTP/1.1 200 OK\r\n".into(), b"x", 64),
        ("a status line of 64 MiB", "HTTP/1.1 200 ".into(), b"x", 64),
        ("64 MiB of white space", "HTTP/1.1 200 OK\r\nX:".into(), b" ", 64),
        ("64 MiB of line ends", String::new(), b"\r\n", 64),
        ("64 MiB of trailers", format!("{chunked}0\r\n"), &line, 64),
        ("a chunk's extension of 64 MiB", format!("{chunked}1;"), b"x", 64),
        // Read one by one, for a minute at most.
        ("2 MiB of answers before the answer", String::new(), b"HTTP/1.1 100 Continue\r\n\r\n", 2),
        // Read digit by digit, for half a minute at most.
        ("a chunk's length of 1 MiB", chunked.into(), b"0", 1),
    ];
    let (good, to) = (good.host(), sink.host());
    each_at_once(cases, |(what, head, unit, mib)| {
        let (what, head, unit, mib) = (*what, head.clone(), unit.to_vec(), *mib);
        let hostile = raw(move |_, stream| flood(stream, &head, &unit, mib));
        async move {
            for (from, to, side) in [(hostile.as_str(), to, "source: "), (good, hostile.as_str(), "destination: ")] {
                let run = seed(from, to, &[]).await;
                run.bounded(what, 4);
                assert!(text(&run.output).contains(side), "{what}: {}", text(&run.output));
            }
        }
    })
    .await;
    assert_eq!(tags(&sink), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_lists_without_an_end_are_left_on_either_side() {
    let pour = || What::Pour { head: "".into(), unit: " ".into(), total: u64::MAX, is_length_told: false };
    let pages = || What::EndlessPages(r#"{"name":"app","tags":["v1"]}"#.into());
    let token = ServerAuth::Bearer { login: None, expires_in: Duration::from_secs(60) };
    let cases = [
        (true, Kind::ManifestGet, pour(), 4),
        (true, Kind::BlobGet, pour(), 4),
        (true, Kind::Token, pour(), 4),
        (true, Kind::Referrers, pour(), 4),
        (true, Kind::Tags, pour(), 0),
        (true, Kind::Tags, pages(), 0),
        // The request succeeded: the rest of the answer is not needed.
        (false, Kind::UploadPost, pour(), 0),
        (false, Kind::UploadPut, pour(), 0),
        (false, Kind::ManifestPut, pour(), 0),
    ];
    each_at_once(cases, async |(is_at_the_source, on, what, code)| {
        let (source, sink) = (source_to(token.clone()).await, Testbed::start().await);
        let bed = if is_at_the_source { &source } else { &sink };
        bed.fault(Fault::always(on, what.clone()));
        let run = seed(source.host(), sink.host(), &[]).await;
        run.bounded(&format!("{on:?} {what:?}"), code);
        assert_eq!(tags(&sink), usize::from(code == 0), "{on:?}");
        assert!(bed.count(on) <= 1_000, "{on:?}: {} requests", bed.count(on));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_that_lead_in_a_circle_or_nowhere_are_left() {
    let cases = [
        (true, Kind::ManifestGet, 6),
        (true, Kind::BlobGet, 6 * 10),
        (true, Kind::Tags, 6),
        (false, Kind::ManifestHead, 6),
        // A body is sent anew each time.
        (false, Kind::UploadPost, 4 * 10),
        (false, Kind::UploadPut, 4 * 10),
        (false, Kind::ManifestPut, 4 * 10),
    ];
    each_at_once(cases, async |(is_at_the_source, on, most)| {
        let (source, sink, other) = (source().await, Testbed::start().await, Testbed::start().await);
        let bed = if is_at_the_source { &source } else { &sink };
        // To the other server and back.
        bed.fault(Fault::always(on, What::Redirect { status: 307, to: format!("http://{}", other.host()) }));
        other.fault(Fault::always(on, What::Redirect { status: 307, to: format!("http://{}", bed.host()) }));
        let run = seed(source.host(), sink.host(), &[]).await;
        let code = if on == Kind::Tags { 0 } else { 4 };
        run.bounded(&format!("{on:?} in a circle"), code);
        let (asked, tagged) = (bed.count(on) + other.count(on), tags(&sink));
        assert!(asked <= most, "{on:?}: {asked} requests");
        assert_eq!(tagged > 0, code == 0, "{on:?}");
    })
    .await;
    let places =
        ["file:///etc", "http://", "http://127.0.0.1:99999", "gopher://127.0.0.1", "http://user:word@[::1", "\\\\x"];
    each_at_once(places, async |to| {
        let (source, sink) = (source().await, Testbed::start().await);
        source.fault(Fault::always(Kind::BlobGet, What::Redirect { status: 302, to: to.into() }));
        seed(source.host(), sink.host(), &[]).await.bounded(to, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_unpacked_because_a_header_says_so() {
    // Zeros, compressed to a thousandth.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..256 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let sink = Testbed::start().await;
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"] {
        let packed = bomb.clone();
        let hostile = Server::start(move |asked| match asked.line.contains("/manifests/v1") {
            true => answer(
                200,
                &[("content-type", "application/vnd.oci.image.index.v1+json"), ("content-encoding", encoding)],
                packed.clone(),
            ),
            false => status(404),
        })
        .await;
        let run = seed(&hostile.host, sink.host(), &[]).await;
        run.bounded(encoding, 4);
        let wants_packed = hostile.asked().iter().any(|asked| asked.header("accept-encoding").is_some());
        assert!(!wants_packed, "it asked for bytes other than those that a digest is of");
    }
    assert_eq!(tags(&sink), 0);
    // Layers stored compressed are unaffected by such a header: their digest is of the compressed bytes.
    let (source, sink) = (source().await, Testbed::start().await);
    source.fault(Fault::always(Kind::BlobGet, What::SetHeader { name: "content-encoding", value: "gzip".into() }));
    seed(source.host(), sink.host(), &[]).await.bounded("layers", 0);
    assert_eq!(tags(&sink), 1);
}
