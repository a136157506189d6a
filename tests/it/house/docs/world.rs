//! The environment of one page's commands: a home folder, and registries behind the host names of the pages.
//!
//! The program does not know that this is a test. It reaches `registry.upstream.example.com` with TLS, through a proxy that
//! maps each name to a server on loopback. Addresses on loopback never go through a proxy: there port 5000 of the pages
//! means a free port, and `/srv`, `/media` and `/var/cache` folders below a temporary one.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autonomy_registry::oci::Reference;
use autonomy_registry::serve::{Profile, ServerCertificates};
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, ClientOptions, Proxies};

use testkit::images::{self, shape};

use crate::kit::serve_bed::Running;
use crate::kit::wire_server::Authority;

/// Registries of the pages that any client may use.
const OPEN: [&str; 5] = [
    "registry.upstream.example.com",
    "registry.site.example.com",
    "registry.example.com",
    "a.example.com",
    "b.example.com",
];
/// A registry that requires a login, with a certificate by a CA that no system trusts.
const PRIVATE: &str = "registry.private.example.com";
/// A registry that behaves like distribution 2.
const DISTRIBUTION: &str = "registry.distribution.example.com";
/// Ports outside the ephemeral range of operating systems.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The publisher's work before the pages begin: signs the images and publishes the public key.
pub(super) const SIGNED: [&str; 9] = [
    "autonomy bundle keygen --out publisher",
    "autonomy bundle seal registry.upstream.example.com/robot-behavior:v0 --key publisher/cosign.key",
    // Signing times have whole seconds, and one page shows that the older image is refused.
    "sleep 1",
    "autonomy bundle seal registry.upstream.example.com/robot-behavior:v1 --key publisher/cosign.key --policy policy",
    "autonomy bundle seal registry.upstream.example.com/nav-stack:v1.2.0 --key publisher/cosign.key",
    "autonomy bundle seal registry.upstream.example.com/nav-stack:v1.3.0 --key publisher/cosign.key",
    "autonomy bundle seal registry.upstream.example.com/nav-stack:v2 --key publisher/cosign.key",
    "for image in robot-behavior:v1 fleet/nav:v2; do autonomy bundle seal a.example.com/$image --key publisher/cosign.key; done",
    "cp publisher/cosign.pub .",
];

pub(super) struct World {
    folder: tempfile::TempDir,
    /// The real port for 5000.
    port: u16,
    proxy: SocketAddr,
    _registries: Vec<Running>,
}

impl World {
    /// A world of its own for the page `name`.
    pub(super) async fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, private) = (Authority::new(), Authority::named("private authority"));
        let mut registries = HashMap::new();
        for host in OPEN {
            registries.insert(host, start(folder.path(), host, &authority, |_| {}).await);
        }
        let distribution =
            |options: &mut autonomy_registry::serve::ServeOptions| options.behaviour = Profile::distribution_2();
        registries.insert(DISTRIBUTION, start(folder.path(), DISTRIBUTION, &authority, distribution).await);
        let users = folder.path().join("users");
        fs::write(&users, format!("robot:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let with_users = |options: &mut autonomy_registry::serve::ServeOptions| options.htpasswd = Some(users.clone());
        registries.insert(PRIVATE, start(folder.path(), PRIVATE, &private, with_users).await);
        let addresses = registries.iter().map(|(host, server)| (format!("{host}:443"), server.host.clone())).collect();

        let world = Self {
            port: free_port(name),
            proxy: proxy(addresses),
            _registries: registries.into_values().collect(),
            folder,
        };
        for folder in ["home/robot", "srv", "media/site", "var/cache", "bin"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_autonomy"), world.path("bin/autonomy")).unwrap();
        fs::write(world.path("authority.pem"), authority.pem()).unwrap();
        world.furnish(&authority, &private);
        world.publish().await;
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn home(&self) -> PathBuf {
        self.path("home/robot")
    }

    /// The files that the pages expect.
    fn furnish(&self, authority: &Authority, private: &Authority) {
        let home = self.home();
        let (certificate, key) = authority.sign("localhost");
        fs::write(home.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(home.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(home.join("users"), format!("site:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        fs::write(home.join("password"), "secret\n").unwrap();
        fs::write(home.join("ca.pem"), private.pem()).unwrap();
        fs::write(home.join("prompt.txt"), "You drive a robot.\n").unwrap();
        fs::create_dir(home.join("policy")).unwrap();
        fs::write(home.join("policy/manifest.json"), r#"{"policy_bundle_version":"1.2.0"}"#).unwrap();
        fs::write(home.join("policy/limits.rego"), "package limits\n\ndefault allow := false\n").unwrap();
    }

    /// Puts the images of the pages into the registries, unsigned.
    async fn publish(&self) {
        let bundle = |seed| shape::three_platforms(seed, &[2_000_000, 30_000, 400]);
        let upstream = "registry.upstream.example.com";
        for (name, image) in [
            (format!("{upstream}/robot-behavior:v0"), bundle(1)),
            (format!("{upstream}/robot-behavior:v1"), shape::three_platforms(1, &[2_000_000, 30_000, 500])),
            (format!("{upstream}/nav-stack:v1.2.0"), shape::two_platforms(3, &[70_000])),
            (format!("{upstream}/nav-stack:v1.3.0"), shape::two_platforms(4, &[80_000])),
            (format!("{upstream}/nav-stack:v2"), shape::two_platforms(5, &[90_000])),
            (format!("{upstream}/unsigned:v1"), shape::single_manifest(6, &[5_000])),
            ("registry.example.com/robot-behavior:v1".to_owned(), bundle(7)),
            ("a.example.com/robot-behavior:v1".to_owned(), bundle(8)),
            ("a.example.com/fleet/nav:v2".to_owned(), shape::two_platforms(9, &[90_000])),
        ] {
            let name: Reference = name.parse().unwrap();
            let store = self.store(&name);
            let root = image.put(&store, &[name.tag.unwrap()]).await;
            if name.repository.host == upstream {
                images::sidecar(&store, &root, "application/spdx+json", br#"{"spdxVersion":"SPDX-2.3"}"#).await;
            }
        }
    }

    fn store(&self, name: &Reference) -> Registry {
        let proxy = format!("http://{}", self.proxy);
        let proxies = Proxies::of(|name| (name == "HTTPS_PROXY").then(|| proxy.clone()));
        let client = Client::new(ClientOptions {
            ca_file: Some(self.path("authority.pem")),
            proxies,
            ..ClientOptions::default()
        });
        Registry::new(&client.unwrap(), &name.repository, Role::Sink)
    }

    /// The environment of a user whose machine has this program and no related one.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("HOME", text(self.home())),
            ("PATH", format!("{}:/usr/bin:/bin", text(self.path("bin")))),
            ("TMPDIR", text(self.folder.path().to_owned())),
            ("SSL_CERT_FILE", text(self.path("authority.pem"))),
            ("HTTPS_PROXY", format!("http://{}", self.proxy)),
            // Keys of these pages have the empty password, so that no command prompts.
            ("COSIGN_PASSWORD", String::new()),
        ]
    }

    /// Translates a command of a page into the command to run here.
    pub(super) fn inward(&self, text: &str) -> String {
        let mut text = text.replace("cargo run --release -- registry demo", "autonomy registry demo --fast");
        text = text.replace(":5000", &format!(":{}", self.port)).replace("0.0.0.0:", "127.0.0.1:");
        for folder in ["/srv/", "/media/", "/var/cache/"] {
            for before in [" ", "=", ">"] {
                let real = format!("{before}{}{folder}", self.folder.path().display());
                text = text.replace(&format!("{before}{folder}"), &real);
            }
        }
        text
    }

    /// Translates the output of a command back to the form on the page.
    pub(super) fn outward(&self, command: &str, printed: &str) -> String {
        let text =
            printed.replace(self.folder.path().to_str().unwrap(), "").replace(&format!(":{}", self.port), ":5000");
        if command.contains("0.0.0.0:") { text.replace("127.0.0.1:5000", "0.0.0.0:5000") } else { text }
    }
}

async fn start(
    folder: &Path,
    host: &str,
    authority: &Authority,
    change: impl FnOnce(&mut autonomy_registry::serve::ServeOptions),
) -> Running {
    let (chain, key) = (folder.join(format!("{host}.crt")), folder.join(format!("{host}.key")));
    let (certificate, private_key) = authority.sign(host);
    fs::write(&chain, certificate.pem()).unwrap();
    fs::write(&key, private_key.serialize_pem()).unwrap();
    Running::start(&folder.join("registries").join(host), |options| {
        options.tls = Some(ServerCertificates { chain, key, client_ca: None });
        options.hosts = vec![host.to_owned()];
        change(options);
    })
    .await
}

/// A free port; each page starts its search elsewhere.
fn free_port(name: &str) -> u16 {
    let start = name.bytes().fold(std::process::id(), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let count = u32::from(PORTS.end - PORTS.start);
    let mut candidates = (0..count).map(|step| PORTS.start + u16::try_from(start.wrapping_add(step) % count).unwrap());
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// A proxy that maps each name, with its port, to an address on loopback, and refuses other names.
fn proxy(addresses: HashMap<String, String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let addresses = Arc::new(addresses);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, addresses) = (stream.unwrap(), Arc::clone(&addresses));
            std::thread::spawn(move || tunnel(stream, &addresses));
        }
    });
    address
}

fn tunnel(mut stream: TcpStream, addresses: &HashMap<String, String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let Some(address) = head.split(' ').nth(1).and_then(|name| addresses.get(name)) else {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    let Ok(mut onward) = TcpStream::connect(address) else { return };
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let (mut back, mut from) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut stream, &mut onward);
    let _ = onward.shutdown(Shutdown::Write);
}
