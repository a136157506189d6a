//! The roll-ups of former runs, kept below `--out` so that an earlier run can be undone too.
//!
//! Each run gets a folder `history/<time>` with its roll-up, which is all that a rollback reads. The folder is complete and
//! flushed under a temporary name before it gets its own: a reader sees a whole run or none. Runs with one folder may
//! overlap: a name that is taken is never taken again.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use crate::disk::file_set;
use crate::document::roll_up::{MAX_ROLLUP_BYTES, RollUp, RollUpTotals};
use crate::error::{Error, Kind, Result};

/// The folder of former runs.
const FOLDER: &str = "history";

/// How long runs are kept by default: 30 days.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The time of a run as the name of its folder. Names sort by time, and no character is special on any file system.
const NAME: &str = "%Y%m%dT%H%M%SZ";

/// Length of such a name.
const NAME_BYTES: usize = "20260525T000000Z".len();

/// Most runs of one second: further ones are numbered, `20260525T000000Z-02`.
const MOST_OF_A_SECOND: u32 = 99;

/// Start of the name of a folder that is not complete yet.
const UNFINISHED: &str = ".unfinished-";

/// Age after which such a folder counts as left behind: a roll-up is written within seconds.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// The runs that are recorded below one folder.
#[derive(Debug)]
pub(crate) struct History {
    /// The folder of `--out`.
    out: PathBuf,
}

/// The recorded runs of a folder.
#[derive(Debug, Serialize)]
pub struct RecordedRuns {
    /// The latest run first.
    pub runs: Vec<RecordedRun>,
    /// Folders that hold no roll-up that can be read, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A recorded run.
#[derive(Debug, Serialize)]
pub struct RecordedRun {
    /// The name of its folder; null for the last run if it is not in the history.
    pub name: Option<String>,
    /// When it ended.
    pub seeded_at: Timestamp,
    /// The catalog as the run named it.
    pub catalog: String,
    /// Images that it brought to their destinations.
    pub seeded: u64,
    /// Images that were in place.
    pub unchanged: u64,
    /// Images that failed.
    pub failed: u64,
    /// Its roll-up, for `rollback --manifest`.
    pub manifest: PathBuf,
}

/// Reads the roll-up in the file `path`; returns its bytes too.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a file that cannot be read, or is not a roll-up.
pub fn read_roll_up(path: &Path) -> Result<(RollUp, Vec<u8>)> {
    let refused = |why: io::Error| {
        let error = Error::new(Kind::Usage, "read").on(path.display()).because(why);
        error.hint(format!("name the {} of a registry seed-catalog run", RollUp::FILE))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    // Reads one byte past the limit: `RollUp::read` then reports the excess.
    file.take(MAX_ROLLUP_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(refused)?;
    let roll_up = RollUp::read(&bytes).map_err(|error| error.during("use the roll-up", path.display()))?;
    Ok((roll_up, bytes))
}

/// Lists the runs that are recorded below the folder `out`.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if no run is recorded there.
pub fn recorded_runs(out: &Path) -> Result<RecordedRuns> {
    let history = History::below(out);
    let (mut runs, mut warnings) = (Vec::new(), Vec::new());
    for name in history.names().map_err(|why| history.failed("list the runs of", why))? {
        let manifest = history.folder().join(&name).join(RollUp::FILE);
        match read_roll_up(&manifest) {
            Ok((roll_up, _)) => runs.push(RecordedRun::new(Some(name), &roll_up, manifest)),
            Err(error) => warnings.push(error.chain()),
        }
    }
    runs.reverse();
    let last = out.join(RollUp::FILE);
    // A folder of a former version, or of runs with `--history 0`, has this one only.
    if last.exists() {
        match read_roll_up(&last) {
            Ok((_, bytes)) if history.has(&bytes) => {}
            Ok((roll_up, _)) => runs.insert(0, RecordedRun::new(None, &roll_up, last)),
            Err(error) => warnings.push(error.chain()),
        }
    }
    if runs.is_empty() && warnings.is_empty() {
        let error = Error::new(Kind::Usage, "list the runs of").on(out.display()).because("no run is recorded there");
        return Err(error.hint("name the folder that was the --out of registry seed-catalog or sync"));
    }
    Ok(RecordedRuns { runs, warnings })
}

impl RecordedRun {
    fn new(name: Option<String>, roll_up: &RollUp, manifest: PathBuf) -> Self {
        let RollUpTotals { seeded, unchanged, failed, .. } = roll_up.totals;
        let (seeded_at, catalog) = (roll_up.seeded_at, roll_up.catalog.clone());
        Self { name, seeded_at, catalog, seeded, unchanged, failed, manifest }
    }
}

impl History {
    pub(crate) fn below(out: &Path) -> Self {
        Self { out: file_set::named(out).to_owned() }
    }

    fn folder(&self) -> PathBuf {
        self.out.join(FOLDER)
    }

    /// Checks that nothing but a folder has its name.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if something else has it.
    pub(crate) fn check(&self) -> Result<()> {
        let folder = self.folder();
        match folder.symlink_metadata() {
            Ok(_) if !folder.is_dir() => {
                let error = Error::new(Kind::Usage, "keep former runs in").on(folder.display());
                Err(error
                    .because("it is not a folder")
                    .hint("move it away, or give --history 0 to keep no former runs"))
            }
            _ => Ok(()),
        }
    }

    /// Adds the run of `roll_up`, whose file is `bytes`. Adds the run before it first, if the history lacks it: a former
    /// version wrote it, or a run that kept no history.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub(crate) fn add(&self, roll_up: &RollUp, bytes: &[u8]) -> Result<()> {
        let failed = |why| self.failed("keep the run in", why);
        if let Ok((former, former_bytes)) = read_roll_up(&self.out.join(RollUp::FILE))
            && !self.has(&former_bytes)
        {
            self.put(former.seeded_at, &former_bytes).map_err(failed)?;
        }
        self.put(roll_up.seeded_at, bytes).map(drop).map_err(failed)
    }

    /// Removes runs that ended more than `kept_for` before `now`, but not the newest, and what a run that was killed has
    /// left behind. With a duration of zero it removes every run.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub(crate) fn prune(&self, now: Timestamp, kept_for: Duration) -> Result<()> {
        let names = self.names().map_err(|why| self.failed("list the runs of", why))?;
        let kept = usize::from(!kept_for.is_zero());
        // Beyond what the clock can count everything is kept.
        let oldest = now.checked_sub(kept_for).map_or_else(|_| String::new(), name);
        let is_old = |at: &&String| kept_for.is_zero() || at[..NAME_BYTES] < *oldest;
        let old = names.iter().take(names.len().saturating_sub(kept)).filter(is_old).cloned();
        for name in old.chain(self.left_behind()) {
            match fs::remove_dir_all(self.folder().join(&name)) {
                // Another run prunes too.
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(self.failed("remove a run from", why)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the names of the runs, the oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.entries()?;
        names.retain(|name| is_run(name));
        names.sort_unstable();
        Ok(names)
    }

    fn left_behind(&self) -> Vec<String> {
        let is_old = |name: &String| {
            let changed = fs::metadata(self.folder().join(name)).and_then(|about| about.modified());
            let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
            name.starts_with(UNFINISHED) && age.is_some_and(|age| age > LEFT_BEHIND)
        };
        self.entries().unwrap_or_default().into_iter().filter(is_old).collect()
    }

    fn entries(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder()) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Returns whether the history has the run of this roll-up.
    fn has(&self, bytes: &[u8]) -> bool {
        let Ok(roll_up) = RollUp::read(bytes) else { return false };
        let same_second = name(roll_up.seeded_at);
        let names = self.names().unwrap_or_default().into_iter().filter(|name| name.starts_with(&same_second));
        let file = |name: String| self.folder().join(name).join(RollUp::FILE);
        names.map(file).any(|file| fs::read(file).is_ok_and(|kept| kept == bytes))
    }

    /// Puts a roll-up into a folder of its own, which appears whole.
    fn put(&self, at: Timestamp, bytes: &[u8]) -> io::Result<()> {
        let (folder, base) = (self.folder(), name(at));
        fs::create_dir_all(&folder)?;
        let passing = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&folder)?;
        open_up(passing.path(), &folder)?;
        for file in file_set::complete(passing.path(), &[(RollUp::FILE, bytes)])? {
            file.persist(passing.path().join(RollUp::FILE)).map_err(|why| why.error)?;
        }
        file_set::settle(passing.path())?;
        for number in 1..=MOST_OF_A_SECOND {
            let name = if number == 1 { base.clone() } else { format!("{base}-{number:02}") };
            let place = folder.join(name);
            // A rename replaces an empty folder only, and those here have a file.
            match fs::rename(passing.path(), &place) {
                Ok(()) => {
                    let _ = passing.keep();
                    return file_set::settle(&folder);
                }
                Err(_) if place.symlink_metadata().is_ok() => {}
                Err(why) => return Err(why),
            }
        }
        Err(io::Error::other(format!("{MOST_OF_A_SECOND} runs have the time {base}")))
    }

    fn failed(&self, what: &'static str, why: io::Error) -> Error {
        Error::new(Kind::Local, what).on(self.folder().display()).because(why)
    }
}

/// Lets the users who can read `folder` read what is below it too: a temporary folder is its owner's alone.
fn open_up(path: &Path, folder: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::metadata(folder)?.permissions())
}

fn name(at: Timestamp) -> String {
    at.strftime(NAME).to_string()
}

/// Returns whether a folder of this name holds a run.
fn is_run(name: &str) -> bool {
    let is_time = |time: &str| Timestamp::strptime("%Y%m%dT%H%M%S%z", time.replace('Z', "+0000")).is_ok();
    match name.split_at_checked(NAME_BYTES) {
        Some((time, "")) => is_time(time),
        Some((time, rest)) => {
            is_time(time) && rest.strip_prefix('-').is_some_and(|number| number.parse::<u8>().is_ok())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A roll-up without entries, written at this second.
    fn at(second: i64) -> (RollUp, Vec<u8>) {
        let seeded_at = Timestamp::from_second(second).unwrap();
        let roll_up = RollUp::new(format!("catalog {second}"), seeded_at, Vec::new(), RollUpTotals::default());
        let bytes = roll_up.to_json().unwrap();
        (roll_up, bytes)
    }

    fn history() -> (tempfile::TempDir, History) {
        let home = tempfile::tempdir().unwrap();
        let history = History::below(home.path());
        (home, history)
    }

    const DAY: i64 = 24 * 3600;

    #[test]
    fn runs_of_one_second_get_names_of_their_own_that_sort_by_time() {
        let (_home, history) = history();
        for _ in 0..12 {
            let (roll_up, bytes) = at(0);
            history.add(&roll_up, &bytes).unwrap();
        }
        let (roll_up, bytes) = at(1);
        history.add(&roll_up, &bytes).unwrap();
        let names = history.names().unwrap();
        assert_eq!((names.len(), &*names[0], &*names[1]), (13, "19700101T000000Z", "19700101T000000Z-02"));
        assert_eq!((&*names[11], &*names[12]), ("19700101T000000Z-12", "19700101T000001Z"));
    }

    #[test]
    fn a_run_of_a_former_version_is_kept_before_its_file_is_replaced() {
        let (home, history) = history();
        let (_, former) = at(5);
        fs::write(home.path().join(RollUp::FILE), &former).unwrap();
        for second in [6, 7] {
            let (roll_up, bytes) = at(second);
            history.add(&roll_up, &bytes).unwrap();
            fs::write(home.path().join(RollUp::FILE), &bytes).unwrap();
        }
        assert_eq!(history.names().unwrap(), ["19700101T000005Z", "19700101T000006Z", "19700101T000007Z"]);
        assert_eq!(fs::read(history.folder().join("19700101T000005Z").join(RollUp::FILE)).unwrap(), former);
        let listed = recorded_runs(home.path()).unwrap().runs;
        assert_eq!(listed.iter().map(|run| run.seeded_at.as_second()).collect::<Vec<_>>(), [7, 6, 5]);
    }

    #[test]
    fn old_runs_are_removed_and_the_newest_and_foreign_names_never() {
        let (_home, history) = history();
        for day in [1, 2, 40] {
            let (roll_up, bytes) = at(day * DAY);
            history.add(&roll_up, &bytes).unwrap();
        }
        for foreign in ["notes", "20260101T000000Z.bak", "20269901T000000Z", "19700102T000000Z-x"] {
            fs::create_dir(history.folder().join(foreign)).unwrap();
        }
        let prune = |day: i64, kept_for| {
            history.prune(Timestamp::from_second(day * DAY).unwrap(), kept_for).unwrap();
            history.names().unwrap()
        };
        assert_eq!(prune(31, KEPT_FOR).len(), 3, "a run of just that age is kept");
        assert_eq!(prune(32, KEPT_FOR), ["19700103T000000Z", "19700210T000000Z"]);
        assert_eq!(prune(32, Duration::MAX).len(), 2);
        assert_eq!(prune(4000, KEPT_FOR), ["19700210T000000Z"], "the newest stays, however old");
        assert!(prune(32, Duration::ZERO).is_empty());
        assert_eq!(history.entries().unwrap().len(), 4, "nothing else is touched");
    }

    #[test]
    fn a_folder_that_a_killed_run_left_is_no_run_and_is_removed_later() {
        let (_home, history) = history();
        let left = history.folder().join(format!("{UNFINISHED}abc"));
        fs::create_dir_all(&left).unwrap();
        let (roll_up, bytes) = at(5);
        history.add(&roll_up, &bytes).unwrap();
        assert_eq!(history.names().unwrap().len(), 1);
        history.prune(roll_up.seeded_at, KEPT_FOR).unwrap();
        assert!(left.exists(), "another run may still write it");
        let old = SystemTime::now() - 2 * LEFT_BEHIND;
        fs::File::open(&left).unwrap().set_modified(old).unwrap();
        history.prune(roll_up.seeded_at, KEPT_FOR).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_damaged_run_is_named_and_the_others_are_listed() {
        let (home, history) = history();
        assert_eq!(recorded_runs(home.path()).unwrap_err().kind(), Kind::Usage);
        for second in [1, 2] {
            let (roll_up, bytes) = at(second);
            history.add(&roll_up, &bytes).unwrap();
        }
        fs::write(history.folder().join("19700101T000001Z").join(RollUp::FILE), "{").unwrap();
        let RecordedRuns { runs, warnings } = recorded_runs(home.path()).unwrap();
        assert_eq!(runs.iter().map(|run| run.name.as_deref()).collect::<Vec<_>>(), [Some("19700101T000002Z")]);
        assert!(warnings.len() == 1 && warnings[0].contains("19700101T000001Z"), "{warnings:?}");
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_refused_before_a_run() {
        let (_home, history) = history();
        assert!(history.check().is_ok());
        fs::write(history.folder(), "").unwrap();
        assert_eq!(history.check().unwrap_err().kind(), Kind::Usage);
    }
}
