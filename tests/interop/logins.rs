//! Logins at real registries, and credential files shared with real clients.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::images::shape;

use crate::Case;
use crate::copies::{block_on, repository};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a login at a registry with htpasswd is tried, kept, shared with other clients and forgotten",
        needs: &["crane", "skopeo", "docker-registry", "registry3"],
        run: htpasswd,
    },
    Case {
        name: "a registry with TLS and client certificates is seeded by those who have one",
        needs: &["skopeo", "registry3"],
        run: client_certificates,
    },
];

const USER: &str = "robot";
const PASSWORD: &str = "correct:horse";

/// `robot` and the password above, hashed with bcrypt.
const HTPASSWD: &str = "robot:$2y$05$abcdefghijklmnopqrstuuto9TfiXPqFaPFSnWZR02c4ScFTB3OSG\n";

/// A user with a docker config of their own.
struct Person(tempfile::TempDir);

impl Person {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn home(&self) -> &Path {
        self.0.path()
    }

    fn own(&self, mut command: Command) -> Command {
        for name in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.home()).env("DOCKER_CONFIG", self.home());
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.own(Command::new(AUTONOMY));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn login(&self, host: &str, password: &str, more: &[&str]) -> Output {
        let fixed = ["registry", "login", host, "-u", USER, "--password-stdin"];
        self.run(&[&fixed, more].concat(), password)
    }

    fn seed(&self, from: &str, to: &str, more: &[&str]) -> Output {
        let out = self.home().join("out");
        let fixed = ["registry", "seed", "--skip-verify", "-q", "--from", from, "--to", to];
        let out = ["--out", out.to_str().unwrap()];
        self.run(&[&fixed[..], &out, more].concat(), "")
    }
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}

fn htpasswd(peers: &Peers) {
    const PLAIN: &[&str] = &["--allow-insecure-registry"];
    let open = Server::start(peers, Kind::Embedded);
    let image = shape::two_platforms(1, &[3000]);
    let root = block_on(image.put(&repository(&open.host, "app"), &["v1".parse().unwrap()]));
    for kind in [Kind::Distribution2, Kind::Distribution3] {
        let person = Person::new();
        let file = person.home().join("htpasswd");
        std::fs::write(&file, HTPASSWD).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: site\n    path: {}\n", file.display());
        let guarded = Server::configured(peers, kind, &auth);
        let host = &guarded.host;
        let config = person.home().join("config.json");
        let (from, to) = (format!("{}/app:v1", open.host), format!("{host}/app:v1"));
        let back = format!("{}/back-{}:v1", open.host, host.replace([':', '.'], "-"));

        assert_code(&person.seed(&from, &to, PLAIN), 4);
        let wrong = person.login(host, "wrong-horse", PLAIN);
        assert_code(&wrong, 4);
        assert!(text(&wrong).contains("401") && !text(&wrong).contains("wrong-horse"), "{}", text(&wrong));
        assert!(!config.exists());

        assert_code(&person.login(host, PASSWORD, PLAIN), 0);
        assert_code(&person.seed(&from, &to, PLAIN), 0);
        assert_code(&person.seed(&to, &back, PLAIN), 0);

        // Other clients read the file that we wrote.
        let crane = |arguments: &[&str]| {
            let mut command = person.own(peers.command("crane"));
            command.args(arguments).output().unwrap()
        };
        let read = crane(&["digest", "--insecure", &to]);
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), root.digest.to_string(), "{}", text(&read));
        let mut command = peers.command("skopeo");
        command.args(["inspect", "--raw", "--tls-verify=false", "--authfile"]).arg(&config);
        let read = person.own(command).arg(format!("docker://{to}")).output().unwrap();
        assert!(read.status.success(), "{}", text(&read));

        assert_code(&person.run(&["registry", "logout", host], ""), 0);
        assert_code(&person.seed(&from, &format!("{host}/other:v1"), PLAIN), 4);
        assert!(!crane(&["digest", "--insecure", &to]).status.success());

        // We use what other clients wrote, and remove it on logout.
        let login = crane(&["auth", "login", host, "-u", USER, "-p", PASSWORD]);
        assert!(login.status.success(), "{}", text(&login));
        assert_code(&person.seed(&from, &format!("{host}/other:v1"), PLAIN), 0);
        assert_code(&person.run(&["registry", "logout", host], ""), 0);
        assert!(!crane(&["digest", "--insecure", &to]).status.success());
        println!("table: {:>16}: login, seed to and from it, crane and skopeo with the same file, logout", kind.name());
    }
}

/// A CA of this test's own.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(rcgen::DnType::CommonName, "site authority");
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        let certificate: &rcgen::Certificate = self.0.as_ref();
        certificate.pem()
    }

    /// A certificate for `name` with its key, as two files.
    fn sign(&self, name: &str, purpose: rcgen::ExtendedKeyUsagePurpose, certificate: &Path, key: &Path) {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let pair = rcgen::KeyPair::generate().unwrap();
        std::fs::write(certificate, params.signed_by(&pair, &self.0).unwrap().pem()).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
    }
}

fn client_certificates(peers: &Peers) {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (person, authority) = (Person::new(), Authority::new());
    let path = |name: &str| person.home().join(name);
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
    authority.sign("127.0.0.1", ServerAuth, &path("server.pem"), &path("server.key"));
    let home = person.home().display();
    let tls = format!(
        "  tls:\n    certificate: {home}/server.pem\n    key: {home}/server.key\n    clientcas:\n      - {home}/ca.pem\n"
    );
    let auth = format!("auth:\n  htpasswd:\n    realm: site\n    path: {home}/htpasswd\n");
    let guarded = Server::configured(peers, Kind::Distribution3, &(tls + &auth));
    let host = &guarded.host;
    let folder = path("certs.d").join(host);
    std::fs::create_dir_all(&folder).unwrap();

    let open = Server::start(peers, Kind::Embedded);
    let root = block_on(shape::two_platforms(1, &[3000]).put(&repository(&open.host, "app"), &["v1".parse().unwrap()]));
    let (from, to) = (format!("{}/app:v1", open.host), format!("{host}/app:v1"));
    let certs = path("certs.d");
    let by_folder = ["--cert-dir", certs.to_str().unwrap()];
    // Plain HTTP is permitted for the source only; the destination still needs TLS.
    let seed = || person.seed(&from, &to, &[&["--allow-insecure-registry"], &by_folder[..]].concat());

    let done = person.login(host, PASSWORD, &by_folder);
    assert_code(&done, 4);
    assert!(text(&done).contains("does not verify") && text(&done).contains("--ca-file"), "{}", text(&done));
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    let done = person.login(host, PASSWORD, &by_folder);
    assert_code(&done, 4);
    assert!(text(&done).contains("client.cert"), "without a certificate: {}", text(&done));
    let stranger = Authority::new();
    stranger.sign("robot", ClientAuth, &folder.join("client.cert"), &folder.join("client.key"));
    let done = person.login(host, PASSWORD, &by_folder);
    assert_code(&done, 4);
    assert!(text(&done).contains("client.cert"), "with one of another authority: {}", text(&done));

    authority.sign("robot", ClientAuth, &folder.join("client.cert"), &folder.join("client.key"));
    assert_code(&seed(), 4);
    assert_code(&person.login(host, PASSWORD, &by_folder), 0);
    assert_code(&seed(), 0);
    let mut skopeo = peers.command("skopeo");
    skopeo.args(["inspect", "--raw", "--authfile"]).arg(path("config.json")).arg("--cert-dir").arg(&folder);
    let read = person.own(skopeo).arg(format!("docker://{to}")).output().unwrap();
    assert_eq!(autonomy_registry::oci::Digest::sha256(&read.stdout), root.digest, "{}", text(&read));
    // Reads from it as well, with the CA given by a flag and not by the folder.
    std::fs::remove_file(folder.join("ca.crt")).unwrap();
    let ca = path("ca.pem");
    let more = ["--allow-insecure-registry", "--ca-file", ca.to_str().unwrap()];
    let back = format!("{}/back:v1", open.host);
    assert_code(&person.seed(&to, &back, &[&more, &by_folder[..]].concat()), 0);
    println!(
        "table: {:>16}: TLS, client certificate and htpasswd at once, seeded to and from",
        Kind::Distribution3.name()
    );
}
