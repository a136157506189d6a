//! The statically linked program alone, in a root with nothing but `/dev`, as in a scratch container. It seeds by address,
//! and by host name once a file there names a name server.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::images::shape;

use crate::Case;
use crate::copies::{block_on, repository};
use crate::peers::{Kind, Peers, STATIC, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case { name: "the static program is one file within 20 MiB", needs: &[STATIC], run: is_one_file },
    Case { name: "the static program seeds alone in an empty root", needs: &[STATIC, "root"], run: seeds_alone },
];

/// Name servers answer on port 53 only, so this uses a loopback address that nothing else uses.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 88, 53, 1);

fn is_one_file(peers: &Peers) {
    let path = peers.path(STATIC);
    let size = std::fs::metadata(&path).unwrap().len();
    println!("table: static program: {:.1} MiB", size as f64 / f64::from(1 << 20));
    assert!(size <= 20 << 20, "{size} bytes");
    // A dynamically linked program names its loader (PT_INTERP).
    let bytes = std::fs::read(&path).unwrap();
    let names_a_loader = bytes.windows(8).any(|window| window == b"/ld-linu" || window == b"/ld-musl");
    assert!(!names_a_loader, "{} needs a dynamic loader", path.display());
}

fn seeds_alone(peers: &Peers) {
    let (source, sink) = (Server::start(peers, Kind::Embedded), Server::start(peers, Kind::Embedded));
    let image = shape::three_platforms(77, &[100, 5000, 70_000]);
    block_on(image.put(&repository(&source.host, "line/app"), &["v1".parse().unwrap()]));
    let root = Root::new(peers);
    let port = |server: &Server| server.host.rsplit_once(':').unwrap().1.to_owned();
    let by_name = format!("registry.site.example:{}", port(&sink));

    let done = root.seed(&source.host, &sink.host);
    assert!(done.status.success(), "by address: {}", text(&done));
    let lock = root.folder.path().join("out/seed.lock");
    assert!(lock.exists(), "{}", text(&done));

    let refused = root.seed(&source.host, &by_name);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("does not resolve"), "{}", text(&refused));

    root.write("etc/hosts", "127.0.0.1 registry.site.example\n");
    let done = root.seed(&source.host, &by_name);
    assert!(done.status.success(), "by /etc/hosts: {}", text(&done));

    std::fs::remove_file(root.folder.path().join("etc/hosts")).unwrap();
    root.write("etc/resolv.conf", &format!("nameserver {NAME_SERVER}\n"));
    let asked = name_server();
    let done = root.seed(&source.host, &by_name);
    assert!(done.status.success(), "by /etc/resolv.conf: {}", text(&done));
    assert!(asked.load(Ordering::Acquire) > 0);
}

/// A folder that is the program's root file system.
struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    fn new(peers: &Peers) -> Self {
        let root = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["dev", "etc"] {
            std::fs::DirBuilder::new().mode(0o755).create(root.folder.path().join(name)).unwrap();
        }
        // Every container has these; the program reads the random ones where `getrandom` is not available.
        for (name, minor) in [("null", "3"), ("zero", "5"), ("full", "7"), ("random", "8"), ("urandom", "9")] {
            let node = root.folder.path().join("dev").join(name);
            let made = Command::new("mknod").arg(node).args(["c", "1", minor]).status().unwrap();
            assert!(made.success());
        }
        let program = root.folder.path().join("autonomy");
        std::fs::copy(peers.path(STATIC), &program).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        root
    }

    fn write(&self, path: impl AsRef<Path>, content: &str) {
        std::fs::write(self.folder.path().join(path), content).unwrap();
    }

    fn seed(&self, from: &str, to: &str) -> Output {
        let (from, to) = (format!("{from}/line/app:v1"), format!("{to}/line/app:v1"));
        let mut command = Command::new("chroot");
        command.arg(self.folder.path()).args(["/autonomy", "registry", "seed", "--allow-insecure-registry"]);
        command.args(["--skip-verify", "--progress", "none", "--from", &from, "--to", &to, "--out", "/out"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
    }
}

/// Answers every query for an IPv4 address with 127.0.0.1 and all other queries with no records (RFC 1035, section 4.1).
/// Counts the queries.
fn name_server() -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, whom)) = socket.recv_from(&mut packet) {
            // Skips header, labels up to the empty one, type and class.
            let labels = 12 + packet[12..length].iter().position(|&byte| byte == 0).unwrap() + 1;
            let question = &packet[12..labels + 4];
            let is_address = question.ends_with(&[0, 1, 0, 1]);
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            answer.extend(question);
            if is_address {
                // A pointer to the name in the query, type, class, 60 seconds, 4 bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            count.fetch_add(1, Ordering::AcqRel);
            socket.send_to(&answer, whom).unwrap();
        }
    });
    asked
}
