//! The file that logins are written to: replaced atomically, readable only by its owner.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config_file::{ConfigFile, filed, normal};
use super::credential_helper::{Helper, HelperFailure};
use super::helper_environment::Surroundings;
use super::{Account, Environment, edit, unusable};
use crate::error::{Error, Kind, Result};

/// How long to wait for another program that writes to the same folder.
const TURN: Duration = Duration::from_secs(5);

/// Where logins are kept: a file, and the helper that it may name.
#[derive(Debug)]
pub struct Vault {
    path: PathBuf,
    helper_limit: Duration,
    surroundings: Surroundings,
}

/// The result of storing or erasing a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLogin {
    /// The host, as the key under which its credentials are stored.
    pub host: String,
    /// The helper that has the secret; `None` if the file holds it.
    pub helper: Option<String>,
    /// Whether there was a login to erase. Always true after storing one.
    pub was_there: bool,
}

impl Vault {
    /// Uses the file that `docker login` and `podman login` would write to: `authfile`, `REGISTRY_AUTH_FILE`, else
    /// docker's `config.json`.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if none of these is known.
    pub fn new(authfile: Option<&Path>, environment: &Environment, helper_limit: Duration) -> Result<Self> {
        let named = authfile.or(environment.registry_auth_file.as_deref()).map(Path::to_owned);
        let usual = || environment.docker_config.as_ref().map(|folder| folder.join("config.json"));
        let path = named.or_else(usual).ok_or_else(|| {
            let error = Error::new(Kind::Usage, "find a place for logins").because("there is no home folder");
            error.hint("name a file with --authfile, or set HOME or DOCKER_CONFIG")
        })?;
        Ok(Self { path, helper_limit, surroundings: Surroundings::of(&environment.variables) })
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a login for `host`, with the identity token instead of the password if there is one.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the file is not a credentials file; [`Local`](Kind::Local) if it cannot be written, or
    /// if the helper that it names does not store the login. The file is then unchanged.
    pub async fn keep(&self, host: &str, account: &Account, identity: Option<&str>) -> Result<StoredLogin> {
        let host = normal(host);
        let helper = self.keeper(&host)?;
        let Account { user, password } = account;
        if let Some((name, helper)) = &helper {
            let (user, secret) = identity.map_or((Some(user.as_str()), password.as_str()), |token| (None, token));
            helper.store(filed(&host), user, secret).await.map_err(|why| self.useless(name, &why))?;
        }
        let entry = match (&helper, identity) {
            (Some(_), _) => edit::LoginEdit::Elsewhere,
            (None, Some(token)) => edit::LoginEdit::Identity { user, token },
            (None, None) => edit::LoginEdit::Password { user, password },
        };
        self.replace(|text| edit::with(text, &host, &entry).map(Some)).await?;
        Ok(StoredLogin { host, helper: helper.map(|(name, _)| name), was_there: true })
    }

    /// Erases the login for `host`, in all its spellings.
    ///
    /// # Errors
    ///
    /// Fails as [`keep`](Self::keep) does.
    pub async fn forget(&self, host: &str) -> Result<StoredLogin> {
        let host = normal(host);
        let helper = self.keeper(&host)?;
        let mut was_there = false;
        if let Some((name, helper)) = &helper {
            was_there = helper.erase(filed(&host)).await.map_err(|why| self.useless(name, &why))?;
        }
        let stood_there = self.replace(|text| edit::without(text, &host)).await?;
        // A helper may report success for a login that it never had; docker's mark in the file is reliable.
        let was_there = if helper.is_some() { was_there && stood_there } else { stood_there };
        Ok(StoredLogin { host, helper: helper.map(|(name, _)| name), was_there })
    }

    /// Returns the helper that the file names for `host`, and its name.
    fn keeper(&self, host: &str) -> Result<Option<(String, Helper)>> {
        let Some(bytes) = existing(&self.path).map_err(|why| unusable(&self.path).because(why))? else {
            return Ok(None);
        };
        let config = ConfigFile::parse(&self.path, &bytes).map_err(|why| unusable(&self.path).because(why))?;
        let Some(name) = config.keeper(host) else { return Ok(None) };
        let helper = Helper::named(name, self.helper_limit, &self.surroundings);
        Ok(Some((name.to_owned(), helper.map_err(|why| self.useless(name, &why))?)))
    }

    fn useless(&self, name: &str, why: &HelperFailure) -> Error {
        let error = Error::new(Kind::Local, "keep logins with").on(format!("docker-credential-{name}"));
        let named_by = self.path.display();
        error.because(why.to_string()).hint(format!("{named_by} names that helper; --authfile names another file"))
    }

    /// Reads the file, applies `edit` and replaces the file with the result. Returns whether `edit` changed anything.
    async fn replace(&self, edit: impl FnOnce(&str) -> Result<Option<String>, String>) -> Result<bool> {
        let failed = |why: io::Error| {
            let error = Error::new(Kind::Local, "write credentials to").on(self.path.display()).because(why);
            error.hint("nothing was written; --authfile names another file")
        };
        let path = target(&self.path).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_new = !folder.exists();
        let place = if is_new { make_private(folder) } else { Ok(()) };
        place.map_err(failed)?;
        let _turn = turn(folder).await.map_err(failed)?;
        let before = existing(&path).map_err(failed)?;
        let text = String::from_utf8(before.clone().unwrap_or_default())
            .map_err(|_| unusable(&self.path).because("not text in UTF-8"))?;
        let Some(after) = edit(&text).map_err(|why| unusable(&self.path).because(why))? else { return Ok(false) };
        put(folder, &path, after.as_bytes()).map_err(failed)?;
        Ok(true)
    }
}

/// Returns the file to write. Follows a link, as docker does: the file may be kept elsewhere and linked to.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            let end = fs::canonicalize(path)
                .map_err(|why| io::Error::new(why.kind(), format!("it is a link that cannot be followed: {why}")))?;
            if end.is_file() { Ok(end) } else { Err(io::Error::other("it is a link to something that is no file")) }
        }
        Ok(found) if !found.is_file() => Err(io::Error::other("it is no file")),
        Ok(_) => Ok(path.to_owned()),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(why) => Err(why),
    }
}

fn existing(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match crate::disk::read_file(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Waits for the lock on `folder`: two logins at the same time must not overwrite each other. Locks the folder because
/// the file is replaced each time.
async fn turn(folder: &Path) -> io::Result<File> {
    let handle = File::open(folder)?;
    let begun = tokio::time::Instant::now();
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::WouldBlock) if begun.elapsed() < TURN => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "another program keeps its folder locked"));
            }
            // Not every file system supports locks; without them this is as safe as docker.
            Err(TryLockError::Error(_)) => return Ok(handle),
        }
    }
}

/// Replaces `path` with a whole file: mode 0600, and the owner of the file before it.
fn put(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Created with mode 0600, so that other users cannot read it at any moment.
    let mut file = tempfile::Builder::new().prefix(".autonomy-login-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    #[cfg(unix)]
    if let Ok(former) = fs::metadata(path) {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
            // Root writes a user's file: the user must be able to read it afterwards.
            let owner = (own.uid() != former.uid()).then_some(former.uid());
            let given = fchown(file.as_file(), owner, Some(former.gid()));
            if owner.is_some() {
                given.map_err(|why| io::Error::new(why.kind(), format!("it belongs to another user: {why}")))?;
            }
        }
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|why| why.error)?;
    // A rename is durable once its folder is synced.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const LIMIT: Duration = Duration::from_secs(5);

    fn account(user: &str) -> Account {
        Account { user: user.into(), password: "p".into() }
    }

    fn vault(path: &Path) -> Vault {
        Vault::new(Some(path), &Environment::default(), LIMIT).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_login_is_written_for_its_owner_alone_and_a_logout_takes_it_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/folder/auth.json");
        let vault = vault(&path);
        assert!(!vault.forget("r.example").await.unwrap().was_there && !path.exists());
        vault.keep("r.example", &account("u"), None).await.unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(fs::read_to_string(&path).unwrap().contains("dTpw"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(vault.forget("https://r.example/").await.unwrap().was_there);
        assert_eq!(mode(&path), 0o600, "a file that others could read is closed");
        assert!(!vault.forget("r.example").await.unwrap().was_there);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_link_is_followed_and_one_to_nowhere_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("kept/config.json"), home.path().join("config.json"));
        fs::create_dir(home.path().join("kept")).unwrap();
        symlink(&file, &link).unwrap();
        let error = vault(&link).keep("r.example", &account("u"), None).await.unwrap_err();
        assert!(error.kind() == Kind::Local && error.chain().contains("link"), "{}", error.chain());
        fs::write(&file, "{}").unwrap();
        vault(&link).keep("r.example", &account("u"), None).await.unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && mode(&file) == 0o600);
        assert!(fs::read_to_string(&file).unwrap().contains("dTpw"));
    }

    #[tokio::test]
    async fn logins_at_the_same_time_all_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("auth.json");
        let mut all = tokio::task::JoinSet::new();
        for number in 0..20 {
            let vault = vault(&path);
            all.spawn(async move { vault.keep(&format!("r{number}.example"), &account("u"), None).await });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().matches("dTpw").count(), 20);
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_credentials_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("auth.json");
        for content in [&b"secret"[..], b"\xff\xfe", b"[1]"] {
            fs::write(&path, content).unwrap();
            let error = vault(&path).keep("r.example", &account("u"), None).await.unwrap_err();
            assert!(error.kind() == Kind::Usage && !error.chain().contains("secret"), "{}", error.chain());
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let error = vault(home.path()).keep("r.example", &account("u"), None).await.unwrap_err();
        assert!(error.chain().contains("directory") || error.chain().contains("no file"), "{}", error.chain());
    }

    #[test]
    fn the_file_is_chosen_as_docker_and_podman_do() {
        let environment = Environment {
            registry_auth_file: Some("/named/by/variable".into()),
            docker_config: Some("/home/.docker".into()),
            ..Environment::default()
        };
        let path = |authfile, environment: &Environment| Vault::new(authfile, environment, LIMIT).map(|v| v.path);
        assert_eq!(path(Some(Path::new("/flag")), &environment).unwrap(), Path::new("/flag"));
        assert_eq!(path(None, &environment).unwrap(), Path::new("/named/by/variable"));
        let usual = Environment { registry_auth_file: None, ..environment };
        assert_eq!(path(None, &usual).unwrap(), Path::new("/home/.docker/config.json"));
        assert_eq!(path(None, &Environment::default()).unwrap_err().kind(), Kind::Usage);
    }
}
