//! Third-party clients against the embedded registry over TLS and with a password.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Case;
use crate::peers::{AUTONOMY, Peers, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "skopeo logs in, pushes and pulls over TLS at the embedded registry",
        needs: &["skopeo"],
        run: skopeo,
    },
    Case { name: "crane logs in, pushes and pulls over TLS at the embedded registry", needs: &["crane"], run: crane },
    Case { name: "regctl shows its certificate to the embedded registry", needs: &["regctl"], run: regctl },
];

const USER: &str = "site";
const PASSWORD: &str = "c0rrect:horse";

/// The embedded registry with a certificate by a CA of its own, one user, and client certificates on request.
struct Secured {
    host: String,
    home: tempfile::TempDir,
    child: Child,
}

impl Secured {
    fn start(wants_client: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "interop authority");
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, content: String| std::fs::write(home.path().join(name), content).unwrap();
        write("ca.crt", issuer.as_ref().pem());
        for (name, subject) in [("tls", "127.0.0.1"), ("client", "node-1")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new([subject.to_owned()]).unwrap();
            write(&format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        write("users", format!("{USER}:{}\n", bcrypt::hash(PASSWORD, 5).unwrap()));
        let host = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let path = |name: &str| home.path().join(name);
        let mut command = Command::new(AUTONOMY);
        command.args(["registry", "serve", "--listen", &host, "--data-dir"]).arg(path("data"));
        command.arg("--tls-cert").arg(path("tls.crt")).arg("--tls-key").arg(path("tls.key"));
        if wants_client {
            command.arg("--client-ca").arg(path("ca.crt"));
        } else {
            command.arg("--htpasswd").arg(path("users"));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line.trim(), format!("listening on https://{host}"));
        Self { host, home, child }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// A client with a home of its own that trusts the CA.
    fn client(&self, peers: &Peers, name: &str) -> Command {
        let mut command = peers.command(name);
        command.env("HOME", self.home.path()).env("DOCKER_CONFIG", self.home.path().join("docker"));
        command.env("SSL_CERT_FILE", self.home.path().join("ca.crt"));
        command
    }

    fn run(&self, peers: &Peers, name: &str, arguments: &[&str]) -> String {
        let output = self.client(peers, name).args(arguments).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn refused(&self, peers: &Peers, name: &str, arguments: &[&str]) -> String {
        let output = self.client(peers, name).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{name} {arguments:?} was let in");
        text(&output)
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An archive with one file in it, as a layer.
fn layer(folder: &Path) -> String {
    let path = folder.join("layer.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    tar.finish().unwrap();
    path.display().to_string()
}

/// Writes a bundle's files as an OCI layout that skopeo can push; written by hand, so that no second client is needed.
fn layout(folder: &Path) -> String {
    use autonomy_registry::oci::{Descriptor, MediaType};
    use autonomy_registry::store::{Body, Layout, Store as _};
    let (config, layer) = (b"{\"architecture\":\"amd64\",\"os\":\"linux\"}", b"a layer");
    let nodes = [Descriptor::of(MediaType::OCI_CONFIG, config), Descriptor::of(MediaType::OCI_LAYER, layer)];
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": nodes[0], "layers": nodes[1..],
    });
    let manifest = manifest.to_string().into_bytes();
    let root = Descriptor::of(MediaType::OCI_MANIFEST, &manifest);
    let target = Layout::at(folder.join("layout"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (node, bytes) in nodes.iter().zip([&config[..], layer]) {
            target.put(node, &Body::bytes(node.clone(), bytes.to_vec()), &[]).await.unwrap();
        }
        target.put(&root, &Body::bytes(root.clone(), manifest), &["v1".parse().unwrap()]).await.unwrap();
    });
    format!("oci:{}:v1", folder.join("layout").display())
}

fn skopeo(peers: &Peers) {
    let server = Secured::start(false);
    let (source, target) = (layout(server.home.path()), format!("docker://{}/team/app:v1", server.host));
    let certificates = server.home.path().join("certs");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::copy(server.path("ca.crt"), certificates.join("ca.crt")).unwrap();
    let certificates = certificates.display().to_string();
    let wrong = server.refused(
        peers,
        "skopeo",
        &["copy", "--dest-cert-dir", &certificates, "--dest-creds", "site:wrong", &source, &target],
    );
    assert!(wrong.contains("authentication required") || wrong.contains("unauthorized"), "{wrong}");
    let authfile = server.path("auth.json");
    let login =
        ["login", "--cert-dir", &certificates, "--authfile", &authfile, "-u", USER, "-p", PASSWORD, &server.host];
    server.run(peers, "skopeo", &login);
    server.run(
        peers,
        "skopeo",
        &["copy", "--preserve-digests", "--authfile", &authfile, "--dest-cert-dir", &certificates, &source, &target],
    );
    let back = format!("oci:{}:v1", server.path("back"));
    server.run(
        peers,
        "skopeo",
        &["copy", "--preserve-digests", "--authfile", &authfile, "--src-cert-dir", &certificates, &target, &back],
    );
    let manifest = |folder: &str| std::fs::read_to_string(server.home.path().join(folder).join("index.json")).unwrap();
    let digest = |text: &str| text.split("sha256:").nth(1).unwrap()[..64].to_owned();
    assert_eq!(digest(&manifest("back")), digest(&manifest("layout")));
}

fn crane(peers: &Peers) {
    let server = Secured::start(false);
    let (layer, reference) = (layer(server.home.path()), format!("{}/team/app:v1", server.host));
    let refused = server.refused(peers, "crane", &["append", "-f", &layer, "-t", &reference]);
    assert!(refused.contains("401 Unauthorized"), "{refused}");
    server.run(peers, "crane", &["auth", "login", &server.host, "-u", USER, "-p", PASSWORD]);
    server.run(peers, "crane", &["append", "-f", &layer, "-t", &reference]);
    server.run(peers, "crane", &["validate", "--remote", &reference]);
    assert_eq!(server.run(peers, "crane", &["ls", &format!("{}/team/app", server.host)]), "v1");
    server.run(peers, "crane", &["pull", &reference, &server.path("pulled.tar")]);
}

fn regctl(peers: &Peers) {
    let server = Secured::start(true);
    let file = server.path("note.txt");
    std::fs::write(&file, "a note").unwrap();
    let reference = format!("{}/team/note:v1", server.host);
    let put = ["artifact", "put", "--artifact-type", "application/x.note", "-f", &file, &reference];
    server.refused(peers, "regctl", &put);
    let certificate = |name: &str| std::fs::read_to_string(server.path(name)).unwrap();
    let set = [
        "registry",
        "set",
        &server.host,
        "--client-cert",
        &certificate("client.crt"),
        "--client-key",
        &certificate("client.key"),
    ];
    server.run(peers, "regctl", &[&set[..], &["--cacert", &certificate("ca.crt"), "--skip-check"]].concat());
    server.run(peers, "regctl", &put);
    assert_eq!(server.run(peers, "regctl", &["artifact", "get", &reference]), "a note");
}
