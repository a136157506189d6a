//! Memory of a program: seeds with the real program and measures its peak resident memory.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use autonomy_registry::serve::testkit::Testbed;

use super::command::{seeding, text};

/// Most memory that a run may hold, in bytes.
pub(crate) const MAX_RESIDENT: u64 = 64 << 20;

/// `registry seed`. Returns its output and its peak memory, in bytes; 0 where there is no `/proc`.
///
/// The kernel keeps the high-water mark, so only the program's last millisecond can be missed between two reads.
pub(crate) async fn seed(from: &str, to: &str, out: &Path, more: &[&str]) -> (Output, u64) {
    let mut command = seeding(from, to, out, more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    // A thread of its own: the runtime may be busy running the server.
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        // Missing, or without these lines, once the program has ended.
        while let Some(now) = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        }) {
            most = most.max(now << 10);
            std::thread::sleep(Duration::from_millis(1));
        }
        most
    });
    let done = child.wait_with_output().await.unwrap();
    (done, watch.join().unwrap())
}

/// Seeds `app:v1` of `host` into a fresh registry. Returns the same; asserts that a failed run tagged and wrote nothing.
pub(crate) async fn seed_anew(host: &str, more: &[&str]) -> (Output, u64) {
    let (sink, out) = (Testbed::start().await, tempfile::tempdir().unwrap());
    let (from, to) = (format!("{host}/app:v1"), format!("{}/app:v1", sink.host()));
    let (done, resident) = seed(&from, &to, out.path(), more).await;
    if !done.status.success() {
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "{}", text(&done));
        assert!(!sink.log().iter().any(|seen| seen.method == "PUT" && seen.path.ends_with("/manifests/v1")));
    }
    (done, resident)
}
