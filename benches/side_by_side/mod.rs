//! What the side-by-side measurements share: whole processes measured from outside, and registries to copy between.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What one run took: seconds, seconds, MiB.
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) peak: f64,
}

pub(crate) fn print(name: &str, costs: &[Cost]) {
    let all = |pick: fn(&Cost) -> f64| spread(costs.iter().map(pick));
    println!("{name:<9} wall {} s  cpu {} s  peak {} MiB", all(|c| c.wall), all(|c| c.cpu), all(|c| c.peak));
}

/// `median (least to most)`.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Runs a program to its end and reads what it took from `/proc` until nothing is left of it but its exit code.
pub(crate) fn measure(command: &mut Command) -> Cost {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    let folder = format!("/proc/{}", child.id());
    let mut peak = 0.0_f64;
    let (wall, cpu) = loop {
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = high.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()) {
            peak = peak.max(kib / 1024.0);
        }
        if status.contains("State:\tZ") {
            break (begun.elapsed().as_secs_f64(), processor_seconds(&folder));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(child.wait().unwrap().success(), "{command:?}");
    Cost { wall, cpu, peak }
}

/// User and system time, from fields 14 and 15 of `stat`, which the kernel keeps until the process is waited for.
fn processor_seconds(folder: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Distribution 2.8 on a free port, its storage in memory where there is room for that.
pub(crate) struct Server {
    pub(crate) host: String,
    child: Child,
    pub(crate) home: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let folder = home.path().display();
        let config = home.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\nhttp:\n  addr: {host}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(&host).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { host, child, home }
    }

    /// Forgets everything, so that memory lasts for many rounds.
    pub(crate) fn empty(&self) {
        let _ = std::fs::remove_dir_all(self.home.path().join("data"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
