//! Uploads to real registries over a link that breaks: resumed where the registry can, otherwise begun anew.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::store::{Body, Put, Store};

use testkit::cut_line::{Cut, CutLine, Moment, Way};
use testkit::images::shape;

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::peers::{Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "an upload that breaks off goes on at distribution 3 and begins anew at 2.8 and zot",
        needs: &["crane", "docker-registry", "registry3"],
        run: broken_uploads,
    },
    Case {
        name: "a line that is away for three seconds ends no seed",
        needs: &["crane", "docker-registry", "registry3"],
        run: lines_away,
    },
];

const SIZE: u64 = 24 << 20;
/// A connection breaks after this many bytes, as long as breaks are left.
const BREAKS_AFTER: u64 = 5 << 20;
/// An allowance for requests without their bodies.
const HEADS: u64 = 64 << 10;

/// A link to a server that breaks this many times and counts the bytes it carries.
struct Link {
    host: String,
    carried: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Link {
    fn to(server: &str, breaks: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let link = Self { host, carried: Arc::default(), connections: Arc::default() };
        let (server, left) = (server.to_owned(), Arc::new(AtomicU64::new(breaks)));
        let (carried, connections) = (Arc::clone(&link.carried), Arc::clone(&link.connections));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                connections.fetch_add(1, Ordering::Relaxed);
                let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
                let (carried, left) = (Arc::clone(&carried), Arc::clone(&left));
                std::thread::spawn(move || carry(client, server, &carried, &left));
            }
        });
        link
    }
}

fn carry(mut client: TcpStream, mut server: TcpStream, carried: &AtomicU64, left: &AtomicU64) {
    let (mut piece, mut own) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = client.read(&mut piece) {
        if server.write_all(&piece[..count]).is_err() {
            break;
        }
        carried.fetch_add(count as u64, Ordering::Relaxed);
        own += count as u64;
        if own >= BREAKS_AFTER && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
        {
            break;
        }
    }
    // The bytes sent so far arrive; the client gets no answer.
    let _ = server.shutdown(Shutdown::Write);
    let _ = client.shutdown(Shutdown::Both);
}

fn broken_uploads(peers: &Peers) {
    let bytes: Vec<u8> = (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let node = Descriptor::of(MediaType::OCI_LAYER, &bytes);
    for (kind, breaks, goes_on) in [
        (Kind::Distribution3, 1, true),
        (Kind::Distribution3, 3, true),
        (Kind::Embedded, 3, true),
        (Kind::Distribution2, 1, false),
        (Kind::Distribution2, 2, false),
        (Kind::Zot, 1, false),
    ] {
        if !Kind::all(peers).contains(&kind) {
            println!("skipped: broken uploads to {}", kind.name());
            continue;
        }
        let server = Server::start(peers, kind);
        let link = Link::to(&server.host, breaks);
        let put = block_on(async {
            let body = Body::bytes(node.clone(), bytes.clone());
            repository(&link.host, "site/app").put(&node, &body, &[]).await
        });
        assert_eq!(put.unwrap(), Put::Sent(SIZE), "{}", kind.name());
        assert!(link.connections.load(Ordering::Relaxed) > breaks, "the link did not break");
        let carried = link.carried.load(Ordering::Relaxed);
        let again = if goes_on { 0 } else { breaks * BREAKS_AFTER };
        println!("table: {:>16}, {breaks} breaks: {carried} bytes carried of {SIZE}", kind.name());
        let expected = SIZE + again..SIZE + again + (breaks + 1) * HEADS;
        assert!(expected.contains(&carried), "{}: {carried} bytes, not {expected:?}", kind.name());
        let mut pulled = peers.command("crane");
        pulled.args(["blob", "--insecure"]);
        let pulled = pulled.arg(format!("{}/site/app@{}", server.host, node.digest)).output().unwrap();
        assert!(pulled.status.success() && Digest::sha256(&pulled.stdout) == node.digest, "{}", kind.name());
    }
}

fn lines_away(peers: &Peers) {
    let image = shape::single_manifest(1, &[SIZE]);
    let source = Server::start(peers, Kind::Distribution3);
    block_on(image.put(&repository(&source.host, "app"), &["v1".parse().unwrap()]));
    for (kind, goes_on) in [(Kind::Distribution2, false), (Kind::Distribution3, true), (Kind::Embedded, true)] {
        for moment in [
            Moment::After(Way::FromServer, SIZE / 2),
            Moment::After(Way::ToServer, SIZE / 2),
            Moment::At("PUT /v2/app/manifests/".into()),
        ] {
            let sink = Server::start(peers, kind);
            let (from, to) = (CutLine::to(&source.host), CutLine::to(&sink.host));
            let line = if matches!(moment, Moment::After(Way::FromServer, _)) { &from } else { &to };
            line.plan(moment.clone(), Cut::Closed, std::time::Duration::from_secs(3));
            let out = tempfile::tempdir().unwrap();
            let flags = ["--skip-verify", "--accessories=none"];
            let done = seed(out.path(), &format!("{}/app:v1", from.host), &format!("{}/app:v1", to.host), &flags);
            let what = format!("{} {moment:?}", kind.name());
            assert!(done.status.success(), "{what}: {}", text(&done));
            assert_eq!(line.cuts(), 1, "{what}");
            let found = peers.run("crane", ["digest", "--insecure", &format!("{}/app:v1", sink.host)]);
            assert_eq!(found.trim(), image.root.digest.to_string(), "{what}");
            let again =
                [from.carried(Way::FromServer), to.carried(Way::ToServer)].map(|bytes| bytes.saturating_sub(SIZE));
            println!("table: {what}: {} and {} bytes moved again", again[0], again[1]);
            let forgets = !goes_on && matches!(moment, Moment::After(Way::ToServer, _));
            let most = if forgets { SIZE } else { 8 << 20 };
            assert!(again[0] <= most && again[1] <= if goes_on { HEADS } else { most }, "{what}: {again:?}");
        }
    }
}
