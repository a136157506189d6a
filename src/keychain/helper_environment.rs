//! Where credential helpers are found, and which variables they receive.
//!
//! A helper needs its folders, its keyring and its cloud settings. It does not need the password of a signing key or of
//! a proxy, so only variables that are known to be needed are passed on.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use url::Url;

/// Variables that are passed on.
const NAMES: [&str; 26] = [
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LANGUAGE",
    "TZ",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // Desktop keyrings, and pass.
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "GNUPGHOME",
    "GPG_TTY",
    "GPG_AGENT_INFO",
    "SSH_AUTH_SOCK",
    // Identities that clouds give to machines.
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "GCE_METADATA_HOST",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBECONFIG",
];

/// Name prefixes of variables that are passed on.
const BEGINNINGS: [&str; 9] =
    ["LC_", "XDG_", "PASSWORD_STORE_", "AWS_", "GOOGLE_", "GCLOUD", "CLOUDSDK_", "AZURE_", "ACR_"];

/// Proxies, in upper case: passed on without name and password.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// The environment of a helper.
#[derive(Clone, Default)]
pub(super) struct Surroundings {
    folders: Vec<PathBuf>,
    variables: Vec<(OsString, OsString)>,
}

/// Some of the variables are cloud secrets, so they are not printed.
impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Selects the variables of a process that helpers receive.
    pub(super) fn of(variables: &[(OsString, OsString)]) -> Self {
        let path = variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        // A relative folder, which an empty entry is too, would run any matching program in the current directory.
        let folders = path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
        let folders: Vec<_> = folders.collect();
        let passed = variables.iter().filter_map(|(name, value)| Some((name.clone(), passed(name.to_str()?, value)?)));
        // The folders were split at colons, so none holds one; an empty text would mean the current directory.
        let path = std::env::join_paths(&folders).ok().filter(|path| !path.is_empty());
        let path = path.map(|path| ("PATH".into(), path));
        Self { variables: passed.chain(path).collect(), folders }
    }

    /// Finds the program of that name.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|program| is_program(program))
    }

    /// Returns the variables that a helper receives.
    pub(super) fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }
}

fn passed(name: &str, value: &OsStr) -> Option<OsString> {
    if PROXIES.contains(&name.to_ascii_uppercase().as_str()) {
        return bare(value.to_str()?).map(Into::into);
    }
    let is_passed = NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    is_passed.then(|| value.to_owned())
}

/// Returns a proxy's address without name and password, or `None` if they may still be in it.
fn bare(address: &str) -> Option<String> {
    if !address.contains('@') {
        return Some(address.to_owned());
    }
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let mut url = Url::parse(&with_scheme).ok()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    (!url.as_str().contains('@')).then(|| url.into())
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Surroundings::of(&variables)
    }

    #[test]
    fn a_helper_sees_what_it_needs_and_no_password_of_ours() {
        let given = surroundings(&[
            ("PATH", "/usr/bin:.:bin::/bin"),
            ("HOME", "/home/u"),
            ("LC_ALL", "C"),
            ("AWS_PROFILE", "edge"),
            ("COSIGN_PASSWORD", "secret"),
            ("AUTONOMY_TRUST_TIME", "secret"),
            ("REGISTRY_PASSWORD", "secret"),
            ("https_proxy", "http://gate:secret@p:3128"),
            ("HTTP_PROXY", "gate:secret@p:3128"),
            ("ALL_PROXY", "http://gate:sec/ret@p"),
            ("NO_PROXY", "localhost"),
        ]);
        let told: Vec<_> = given.variables().iter().map(|(name, value)| (name.to_str(), value.to_str())).collect();
        let expected = [
            ("HOME", "/home/u"),
            ("LC_ALL", "C"),
            ("AWS_PROFILE", "edge"),
            ("https_proxy", "http://p:3128/"),
            ("HTTP_PROXY", "http://p:3128/"),
            ("NO_PROXY", "localhost"),
            ("PATH", "/usr/bin:/bin"),
        ];
        assert_eq!(told, expected.map(|(name, value)| (Some(name), Some(value))));
        assert!(!format!("{given:?}").contains("edge"));
    }

    #[cfg(unix)]
    #[test]
    fn a_helper_is_found_in_an_absolute_folder_and_must_be_a_program() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-credential-x");
        std::fs::write(&program, "").unwrap();
        let path = format!(":.:{}", dir.path().display());
        let found = || surroundings(&[("PATH", &path)]).find("docker-credential-x");
        assert_eq!(found(), None, "no program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found(), Some(program));
        assert_eq!(Surroundings::default().find("sh"), None);
    }
}
