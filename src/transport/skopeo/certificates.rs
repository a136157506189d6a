//! Certificates for one host, in the single folder that skopeo accepts.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{End, Options};
use crate::error::{Error, Kind, Result};
use crate::transport::LocationScheme;
use crate::wire::holds_certificates;

/// Where skopeo looks by default, unless it is given a folder.
const SYSTEM: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The folder for one side of a copy.
#[derive(Debug)]
pub(super) enum CertificateFolder {
    /// No folder is needed: skopeo looks in the system's folders.
    System,
    /// An existing folder.
    Folder(PathBuf),
    /// A temporary folder, removed with this value.
    Made(TempDir),
}

impl CertificateFolder {
    /// Collects the certificates in `options` for the host of `end`.
    pub(super) fn of(end: &End, options: &Options) -> Result<Self> {
        if end.scheme != LocationScheme::Https {
            return Ok(Self::System);
        }
        let host = &end.reference.repository.host;
        // A folder for each host, or skopeo's own form: one for all.
        let named = options.cert_dir.iter().flat_map(|folder| [folder.join(host), folder.clone()]);
        let own = named.into_iter().find(|folder| holds_certificates(folder));
        match (own, &options.ca_file) {
            (None, None) => Ok(Self::System),
            (Some(folder), None) => Ok(Self::Folder(folder)),
            // A given folder replaces the system's, so the system's certificates for the host are included.
            (own, Some(ca_file)) => {
                let system = SYSTEM.iter().map(|folder| Path::new(folder).join(host));
                let folder = own.into_iter().chain(system).find(|folder| holds_certificates(folder));
                let made = together(ca_file, folder.as_deref());
                made.map(Self::Made)
                    .map_err(|cause| Error::new(Kind::Local, "gather certificates for").on(host).because(cause))
            }
        }
    }

    /// Returns the folder to pass, if any.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::System => None,
            Self::Folder(folder) => Some(folder),
            Self::Made(folder) => Some(folder.path()),
        }
    }
}

/// Creates links, so that no private key is ever copied.
fn together(ca_file: &Path, folder: Option<&Path>) -> io::Result<TempDir> {
    let made = tempfile::Builder::new().prefix("autonomy-certs-").tempdir()?;
    // The name must end in `.crt`, and must not collide with the usual names in such a folder.
    symlink(fs::canonicalize(ca_file)?, made.path().join("autonomy-ca-file.crt"))?;
    for entry in folder.map(fs::read_dir).transpose()?.into_iter().flatten() {
        let entry = entry?;
        symlink(fs::canonicalize(entry.path())?, made.path().join(entry.file_name()))?;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(scheme: LocationScheme) -> End {
        End { reference: "a.example:5000/x:1".parse().unwrap(), scheme }
    }

    fn files(certificates: &CertificateFolder) -> Vec<(String, String)> {
        let entries = fs::read_dir(certificates.folder().unwrap()).unwrap().map(Result::unwrap);
        let text = |path: PathBuf| fs::read_to_string(path).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), text(entry.path()))).collect();
        files.sort();
        files
    }

    #[test]
    fn what_the_host_has_and_the_ca_file_stand_in_one_folder_that_goes_again() {
        let place = tempfile::tempdir().unwrap();
        let (ca_file, cert_dir) = (place.path().join("ca.pem"), place.path().join("certs.d"));
        fs::write(&ca_file, "extra").unwrap();
        fs::create_dir_all(cert_dir.join("a.example:5000")).unwrap();
        for name in ["ca.crt", "client.cert", "client.key"] {
            fs::write(cert_dir.join("a.example:5000").join(name), name).unwrap();
        }
        let options = Options { ca_file: Some(ca_file), cert_dir: Some(cert_dir.clone()), ..Options::default() };

        let made = CertificateFolder::of(&end(LocationScheme::Https), &options).unwrap();
        let expected =
            ["autonomy-ca-file.crt=extra", "ca.crt=ca.crt", "client.cert=client.cert", "client.key=client.key"];
        assert_eq!(files(&made).iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>(), expected);
        let path = made.folder().unwrap().to_owned();
        drop(made);
        assert!(!path.exists() && cert_dir.join("a.example:5000/client.key").exists());

        let options = Options { ca_file: None, ..options };
        let own = CertificateFolder::of(&end(LocationScheme::Https), &options).unwrap();
        assert_eq!(own.folder(), Some(cert_dir.join("a.example:5000").as_path()), "nothing is made without need");
    }

    #[test]
    fn a_flat_folder_is_for_every_host_without_one_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("ca.crt"), "flat").unwrap();
        let options = Options { cert_dir: Some(place.path().to_owned()), ..Options::default() };
        let folder =
            || CertificateFolder::of(&end(LocationScheme::Https), &options).unwrap().folder().unwrap().to_owned();
        assert_eq!(folder(), place.path());
        fs::create_dir(place.path().join("a.example:5000")).unwrap();
        fs::write(place.path().join("a.example:5000/ca.crt"), "own").unwrap();
        assert_eq!(folder(), place.path().join("a.example:5000"));
    }

    #[test]
    fn nothing_is_named_where_nothing_is_needed() {
        let place = tempfile::tempdir().unwrap();
        let options = Options { cert_dir: Some(place.path().to_owned()), ..Options::default() };
        assert!(CertificateFolder::of(&end(LocationScheme::Https), &options).unwrap().folder().is_none());
        let missing = Options { ca_file: Some(place.path().join("none.pem")), ..Options::default() };
        assert!(CertificateFolder::of(&end(LocationScheme::Http), &missing).unwrap().folder().is_none());
        assert_eq!(CertificateFolder::of(&end(LocationScheme::Https), &missing).unwrap_err().kind(), Kind::Local);
    }
}
