//! Whole processes measured from outside: wall time, processor time, peak memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Concurrent processes where a tool takes one image at a time, as with `xargs -P4`.
const LANES: usize = 4;
/// Pauses between two readings of a process's memory: short at first, for short processes.
const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// Cost of one run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of processor, user and system, of all processes and of the children that they waited for.
    pub(crate) cpu: f64,
    /// MiB of the largest process.
    pub(crate) peak: f64,
}

/// Runs all `commands`, a few at once, and returns their total cost.
///
/// No other child of this program may end meanwhile: processor time is read from the total of all ended children.
///
/// # Errors
///
/// The failure of the first one, with the end of its `log`.
pub(crate) fn measure(commands: Vec<Command>, log: &Path) -> Result<Cost, String> {
    let lanes = LANES.min(commands.len());
    let (waiting, peak, failure) = (Mutex::new(commands.into_iter()), Mutex::new(0.0_f64), Mutex::new(None));
    let before = processor_seconds();
    let begun = Instant::now();
    thread::scope(|scope| {
        let lane = || {
            while failure.lock().unwrap().is_none() {
                let Some(command) = waiting.lock().unwrap().next() else { return };
                match run(command, log) {
                    Ok(one) => {
                        let mut peak = peak.lock().unwrap();
                        *peak = peak.max(one);
                    }
                    Err(why) => *failure.lock().unwrap() = Some(why),
                }
            }
        };
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    let wall = begun.elapsed().as_secs_f64();
    let cpu = processor_seconds() - before;
    match failure.into_inner().unwrap() {
        Some(why) => Err(why),
        None => Ok(Cost { wall, cpu, peak: peak.into_inner().unwrap() }),
    }
}

/// Runs one to its end; returns its peak.
fn run(mut command: Command, log: &Path) -> Result<f64, String> {
    let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let looking = look(&child);
    let status = child.wait().unwrap();
    let peak = looking.join().unwrap();
    if status.success() {
        return Ok(peak);
    }
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let end = said.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
    Err(format!("{status}: {end}"))
}

/// Reads the high-water mark until the process is gone. The kernel's own figure for an ended child is unusable: it begins
/// with the memory of the program that started it.
fn look(child: &Child) -> thread::JoinHandle<f64> {
    let path = format!("/proc/{}/status", child.id());
    thread::spawn(move || {
        let mut peak = 0.0_f64;
        for look in 0.. {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            // A process that has ended has no such line, if it has the file at all.
            let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
            peak = peak.max(line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0));
            thread::sleep(LOOKS[usize::from(look > 50)]);
        }
        peak / 1024.0
    })
}

/// Processor time of all children that have ended and been waited for.
fn processor_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
