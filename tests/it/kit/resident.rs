//! Memory of a program: runs it to its end and measures its peak resident memory.

use std::process::{Output, Stdio};
use std::time::Duration;

/// Runs `command`. Returns its output and its peak memory, in KiB; 0 where there is no `/proc`.
///
/// The kernel keeps the high-water mark, so only the program's last millisecond can be missed between two reads.
pub(crate) async fn run(mut command: tokio::process::Command) -> (Output, u64) {
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
            most = most.max(now);
            std::thread::sleep(Duration::from_millis(1));
        }
        most
    });
    let done = child.wait_with_output().await.unwrap();
    (done, watch.join().unwrap())
}
