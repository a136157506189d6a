//! TLS: the CAs that are trusted for a host, and the client certificate for it.
//!
//! Roots are the system's (Mozilla's where it has none), `--ca-file`, and the host's folder under `certs.d`, the layout
//! that docker and podman share: `certs.d/<host>[:port]/{*.crt, *.cert + *.key}`. `--cert-dir` may also have the files
//! itself, as skopeo wants it: they are then for every host that has no folder in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::disk::read_file;
use crate::error::{Error, Kind, Result};
use crate::named_certificates::{Named, Servers};

/// The folders that docker and podman use.
const SYSTEM_DIRS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

#[derive(Debug)]
pub(crate) struct ClientTls {
    provider: Arc<CryptoProvider>,
    extra: Vec<CertificateDer<'static>>,
    dirs: Vec<PathBuf>,
    /// A folder whose files are for every host without one of its own.
    flat: Option<PathBuf>,
}

/// The system's roots. Reading them takes many milliseconds: only done when a host sends a certificate.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(system_roots);

/// When to read the system's roots: before a connection is made, or when a host sends a certificate that needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// At once, in parallel with other work.
    Now,
    /// For a host that most likely speaks plain HTTP.
    AtNeed,
}

/// The client certificate and key for a host that requires one.
struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    key_path: PathBuf,
}

impl ClientTls {
    pub(crate) fn new(ca_file: Option<&Path>, cert_dir: Option<&Path>) -> Result<Self> {
        let extra = match ca_file {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let dirs = cert_dir.into_iter().chain(SYSTEM_DIRS.iter().map(Path::new)).map(Path::to_owned).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let flat = cert_dir.filter(|folder| holds_certificates(folder)).map(Path::to_owned);
        Ok(Self { provider, extra, dirs, flat })
    }

    /// Returns the first folder with any files for `host`: they show that the host speaks TLS. A flat folder shows it of
    /// none: it is for all of them.
    pub(crate) fn set_up_in(&self, host: &str) -> Option<PathBuf> {
        self.folders(host).find(|folder| holds(folder, |_| true))
    }

    /// Returns the configuration for connections to `host`.
    pub(crate) async fn config(&self, host: &str, roots: Roots) -> Result<ClientConfig> {
        if roots == Roots::Now {
            let read = tokio::task::spawn_blocking(|| LazyLock::force(&SYSTEM)).await;
            read.map_err(|why| Error::new(Kind::Local, "read root certificates").because(why))?;
        }
        let (mut own, mut named) = (RootCertStore::empty(), self.extra.clone());
        for certificate in &self.extra {
            add(&mut own, certificate.clone(), Path::new("--ca-file"))?;
        }
        let mut identity = None;
        if let Some(folder) = self.folder(host) {
            for path in files(&folder, "crt")? {
                for certificate in certificates(&path)? {
                    add(&mut own, certificate.clone(), &path)?;
                    named.push(certificate);
                }
            }
            identity = client_identity(&folder)?;
        }
        let algorithms = self.provider.signature_verification_algorithms;
        let servers = Servers { named: Named::new(named), own, system: || &SYSTEM, algorithms };
        self.build(Arc::new(servers), identity)
    }

    /// Returns the configuration for a client that will never use TLS.
    pub(crate) fn unused(&self) -> Result<ClientConfig> {
        let algorithms = self.provider.signature_verification_algorithms;
        let (named, own) = (Named::default(), RootCertStore::empty());
        self.build(Arc::new(Servers { named, own, system: || &SYSTEM, algorithms }), None)
    }

    fn build(&self, servers: Arc<Servers>, identity: Option<ClientIdentity>) -> Result<ClientConfig> {
        let wrong = |why: rustls::Error| Error::new(Kind::Local, "set up TLS").because(why);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(servers);
        let mut config = match identity {
            // Fails if the key's type is unknown, or if it does not match the certificate.
            Some(ClientIdentity { chain, key, key_path }) => {
                builder.with_client_auth_cert(chain, key).map_err(|why| unusable("private key", &key_path, why))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Returns the first folder with certificates or keys for `host`. Only that one counts, as with podman: an operator
    /// who sets up a folder does not mean the system's as well. With podman an empty folder counts too, and hides later
    /// ones; here it is ignored.
    fn folder(&self, host: &str) -> Option<PathBuf> {
        let mut folders = self.folders(host).filter(|folder| holds_certificates(folder));
        match (&self.flat, folders.next()) {
            // The operator named the flat folder, and not the system's.
            (Some(flat), Some(found)) if found.starts_with(flat) => Some(found),
            (Some(flat), _) => Some(flat.clone()),
            (None, found) => found,
        }
    }

    /// Returns the folders that may hold files for `host`; the default port may be part of the name or not.
    fn folders(&self, host: &str) -> impl Iterator<Item = PathBuf> {
        let names = match host.strip_suffix(":443") {
            Some(bare) => [host.to_owned(), bare.to_owned()],
            None if names_port(host) => [host.to_owned(), host.to_owned()],
            None => [host.to_owned(), format!("{host}:443")],
        };
        // The host of a redirect comes from the peer: it must not escape the folder.
        let is_name = !host.starts_with('.') && !host.contains('/');
        let dirs = self.dirs.iter().filter(move |_| is_name);
        dirs.flat_map(move |dir| names.clone().map(|name| dir.join(name)))
    }
}

/// Returns whether a port follows the name, or the address in brackets.
fn names_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|end| end.contains(':'))
}

/// Returns whether `folder` holds certificates or keys, by the names that docker and podman look for.
pub(crate) fn holds_certificates(folder: &Path) -> bool {
    let is_one = |ending: &std::ffi::OsStr| ["crt", "cert", "key"].iter().any(|known| ending == *known);
    holds(folder, |path| path.extension().is_some_and(is_one))
}

/// Returns whether a file in `folder` matches. True if the folder cannot be read: a caller that needs the files then
/// gets the error.
fn holds(folder: &Path, is_one: impl Fn(&Path) -> bool) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.any(|entry| entry.is_ok_and(|entry| is_one(&entry.path()))),
        Err(why) => folder.is_dir() && why.kind() != std::io::ErrorKind::NotFound,
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        // A warning if the system's roots exist but cannot be read: they are not used.
        match found.errors.first() {
            Some(why) => tracing::warn!(%why, "root certificates cannot be read; Mozilla's are used"),
            None => tracing::debug!("this machine has no root certificates; Mozilla's are used"),
        }
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn client_identity(folder: &Path) -> Result<Option<ClientIdentity>> {
    let Some(path) = files(folder, "cert")?.into_iter().next() else { return Ok(None) };
    let key_path = path.with_extension("key");
    let key = read_file(&key_path).map_err(|why| unusable("private key", &key_path, why))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|why| unusable("private key", &key_path, why))?;
    Ok(Some(ClientIdentity { chain: certificates(&path)?, key, key_path }))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_file(path).map_err(|why| unusable("certificate", path, why))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable("certificate", path, "it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(why) => Err(unusable("certificate", path, why)),
    }
}

fn add(roots: &mut RootCertStore, certificate: CertificateDer<'static>, path: &Path) -> Result<()> {
    roots.add(certificate).map_err(|why| unusable("certificate", path, why))
}

/// Returns the files in `folder` that end in `.<ending>`, in order of their names.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|why| unusable("certificates", folder, why))?;
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.extension().is_some_and(|own| own == ending));
    found.sort();
    Ok(found)
}

fn unusable(what: &str, path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Usage, format!("read {what}")).on(path.display()).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_a_folder_for_the_host_are_a_set_up_and_an_empty_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        for host in ["r.example:5000", "s.example", "empty.example"] {
            fs::create_dir(dir.path().join(host)).unwrap();
        }
        for file in ["r.example:5000/ca.crt", "s.example/client.cert"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let tls = ClientTls::new(None, Some(dir.path())).unwrap();
        let is_set_up = |host| tls.set_up_in(host).is_some();
        assert!(is_set_up("r.example:5000") && is_set_up("s.example:443"));
        assert!(!is_set_up("r.example") && !is_set_up("empty.example"));
    }

    /// Returns two folders, the earlier one first.
    fn two(earlier: &[&str], later: &[&str]) -> (tempfile::TempDir, ClientTls, [PathBuf; 2]) {
        let place = tempfile::tempdir().unwrap();
        let dirs = ["earlier", "later"].map(|name| place.path().join(name));
        for (dir, files) in dirs.iter().zip([earlier, later]) {
            for file in files {
                let path = dir.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if !file.ends_with('/') {
                    fs::write(path, "").unwrap();
                }
            }
        }
        let tls = ClientTls { dirs: dirs.to_vec(), ..ClientTls::new(None, None).unwrap() };
        (place, tls, dirs)
    }

    #[test]
    fn a_flat_folder_is_for_every_host_without_one_of_its_own_and_shows_tls_of_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), "").unwrap();
        fs::create_dir(dir.path().join("r.example")).unwrap();
        fs::write(dir.path().join("r.example/ca.crt"), "").unwrap();
        let tls = ClientTls::new(None, Some(dir.path())).unwrap();
        assert_eq!(tls.folder("s.example:5000").as_deref(), Some(dir.path()));
        assert_eq!(tls.folder("r.example"), Some(dir.path().join("r.example")));
        assert_eq!(tls.set_up_in("s.example:5000"), None);
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        fs::write(dir.path().join("README"), "").unwrap();
        assert_eq!(ClientTls::new(None, Some(dir.path())).unwrap().folder("s.example:5000"), None);
    }

    #[test]
    fn an_empty_folder_hides_no_certificates_in_a_later_one() {
        for earlier in [&["r.example:5000/"][..], &[], &["r.example:5000"], &["other.example/ca.crt"]] {
            let (_place, tls, [_, later]) = two(earlier, &["r.example:5000/ca.crt"]);
            assert_eq!(tls.folder("r.example:5000"), Some(later.join("r.example:5000")), "{earlier:?}");
            assert_eq!(tls.set_up_in("r.example:5000"), Some(later.join("r.example:5000")), "{earlier:?}");
        }
    }

    #[test]
    fn the_first_folder_with_certificates_or_keys_is_the_only_one_and_any_file_says_that_there_is_tls() {
        for file in ["ca.crt", "client.cert", "client.key"] {
            let (_place, tls, [earlier, _]) = two(&[&format!("r.example/{file}")], &["r.example/ca.crt"]);
            assert_eq!(tls.folder("r.example"), Some(earlier.join("r.example")), "{file}");
        }
        let (_place, tls, [earlier, later]) = two(&["r.example/README"], &["r.example/ca.crt"]);
        assert_eq!(tls.folder("r.example"), Some(later.join("r.example")));
        assert_eq!(tls.set_up_in("r.example"), Some(earlier.join("r.example")));
    }

    #[test]
    fn the_default_port_may_be_written_or_not() {
        let (_place, tls, _) = two(&["a.example/ca.crt", "b.example:443/ca.crt", "[::1]:443/ca.crt"], &[]);
        for (host, is_there) in [
            ("a.example", true),
            ("a.example:443", true),
            ("b.example", true),
            ("b.example:443", true),
            ("[::1]", true),
            ("[::1]:443", true),
            ("a.example:444", false),
            ("../earlier/a.example", false),
        ] {
            assert_eq!((tls.folder(host).is_some(), tls.set_up_in(host).is_some()), (is_there, is_there), "{host}");
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for content in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, content).unwrap();
            let error = ClientTls::new(Some(&path), None).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains("ca.pem"), "{}", error.chain());
        }
        assert!(ClientTls::new(Some(&dir.path().join("absent")), None).is_err());
    }
}
