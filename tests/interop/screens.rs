//! The screen of a copy in a real terminal, tmux: compared with stored screens at three widths, after the window was
//! resized, and after the end.
//!
//! The copy is a catalog of two images. One is in place; the two large layers of the other stop half-way: so the screen
//! stays as it is. Ports, rates and times are masked.

use std::process::Command;
use std::time::{Duration, Instant};

use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use tempfile::TempDir;
use testkit::images::shape;

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::peers::{AUTONOMY, Peers};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "bars in a terminal of 80, 60 and 40 columns look as stored, and Ctrl-C leaves a clean line",
        needs: &["tmux"],
        run: stored_screens,
    },
    Case { name: "the frame after a resize is whole", needs: &["tmux"], run: resized },
    Case { name: "a dumb terminal gets plain lines and no colours", needs: &["tmux"], run: dumb },
];

const LAYER: u64 = 4 << 20;
/// Each layer stops at a half, or nearly: so few bytes follow that no number changes.
const HALF: What = What::Trickle { after: LAYER / 2, bytes_per_second: 1024 };

/// The stored screens, by width.
const STORED: [(u16, &str); 3] =
    [(80, include_str!("screens/80.txt")), (60, include_str!("screens/60.txt")), (40, include_str!("screens/40.txt"))];

/// A catalog whose copy stops half-way.
struct Scene {
    _registries: [Testbed; 2],
    home: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (source, sink) = block_on(async { (Testbed::start().await, Testbed::start().await) });
        let home = tempfile::tempdir().unwrap();
        let mut catalog = "version: 1\nentries:\n".to_owned();
        for (name, number, layer) in [("a", 1, 500), ("b", 2, LAYER)] {
            let image = shape::two_platforms(number, &[900, layer]);
            block_on(image.put(&repository(source.host(), name), &["v1".parse().unwrap()]));
            catalog.push_str(&format!("  - from: {}/{name}:v1\n    to: {}/{name}:v1\n", source.host(), sink.host()));
        }
        std::fs::write(home.path().join("catalog.yaml"), catalog).unwrap();
        let (from, to) = (format!("{}/a:v1", source.host()), format!("{}/a:v1", sink.host()));
        let done = seed(&home.path().join("before"), &from, &to, &["--skip-verify"]);
        assert!(done.status.success(), "{}", crate::peers::text(&done));
        source.fault(Fault::always(Kind::BlobGet, HALF));
        Self { _registries: [source, sink], home }
    }

    /// The command, for a shell.
    fn command(&self) -> String {
        let home = self.home.path().display();
        format!(
            "{AUTONOMY} registry seed-catalog --allow-insecure-registry --skip-verify --catalog {home}/catalog.yaml \
             --out {home}/out; echo \"exit $?\"; sleep 60"
        )
    }
}

/// A terminal that ends when dropped.
struct Terminal {
    program: std::path::PathBuf,
    socket: TempDir,
}

impl Terminal {
    fn start(peers: &Peers, columns: u16, command: &str) -> Self {
        let terminal = Self { program: peers.path("tmux"), socket: tempfile::tempdir().unwrap() };
        let columns = columns.to_string();
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", "24", command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(["-f", "/dev/null", "-S"]).arg(self.socket.path().join("tmux")).args(arguments);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TMUX"] {
            command.env_remove(name);
        }
        let done = command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(done.status.success(), "tmux {arguments:?}: {}", crate::peers::text(&done));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// The lines on the screen, masked.
    fn screen(&self) -> Vec<String> {
        let lines = self.tmux(&["capture-pane", "-p"]);
        lines.lines().filter(|line| !line.is_empty()).map(masked).collect()
    }

    /// Waits until `holds` for the screen, and returns that screen.
    fn wait(&self, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the screen stays at:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Replaces ports, and what follows a size in a line with a percentage: rates and the time left.
fn masked(line: &str) -> String {
    let mut words: Vec<_> = line.split(' ').collect();
    let is_progress = line.contains("50%");
    let size = words.iter().position(|word| word.trim_end_matches(',') == "MiB").filter(|_| is_progress);
    if let Some(at) = size {
        words.truncate(at + 1);
    }
    let words = words.into_iter().map(|word| match word.strip_prefix("127.0.0.1:") {
        Some(rest) => format!("HOST{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ").trim_end_matches([' ', ',']).to_owned()
}

/// The frame of a stored screen: the bars and the lines below them.
fn frame(stored: &str) -> Vec<&str> {
    stored.lines().skip_while(|line| !line.contains("50%")).collect()
}

fn stored_screens(peers: &Peers) {
    for (columns, stored) in STORED {
        let scene = Scene::new();
        let terminal = Terminal::start(peers, columns, &scene.command());
        let stored: Vec<_> = stored.lines().collect();
        let screen = terminal.wait(|screen| screen == stored);
        assert!(screen.iter().any(|line| line.contains("linux/arm64/v8 layer 2 of 2")) || columns == 40, "{screen:?}");
        terminal.tmux(&["send-keys", "C-c"]);
        let ended = terminal.wait(|screen| screen.last().is_some_and(|line| line == "exit 130"));
        // The lines above the bars stay, and nothing of the bars does.
        assert!(
            ended.iter().all(|line| !line.contains("50%") && !line.contains("images") && !line.contains("^C")),
            "{ended:#?}"
        );
        assert!(ended.iter().any(|line| line.starts_with("error: ")), "{ended:#?}");
        assert_eq!(terminal.tmux(&["display-message", "-p", "#{cursor_flag}#{wrap_flag}"]).trim(), "11");
        let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
        assert!(coloured.contains("\u{1b}[31merror:"), "{coloured:?}");
    }
}

fn resized(peers: &Peers) {
    let scene = Scene::new();
    let terminal = Terminal::start(peers, 100, &scene.command());
    let of = |columns: u16| frame(STORED.iter().find(|(at, _)| *at == columns).unwrap().1);
    let is_whole = |columns| {
        move |screen: &[String]| screen.ends_with(&of(columns).iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    };
    // Lines are never wider than in a window of 80 columns.
    terminal.wait(is_whole(80));
    for columns in [60, 40, 100] {
        terminal.tmux(&["resize-window", "-x", &columns.to_string()]);
        terminal.wait(is_whole(columns.min(80)));
    }
}

fn dumb(peers: &Peers) {
    let scene = Scene::new();
    let terminal = Terminal::start(peers, 100, &format!("export TERM=dumb; {}", scene.command()));
    terminal.wait(|screen| screen.iter().any(|line| line.ends_with("unchanged HOST/a:v1")));
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.wait(|screen| screen.last().is_some_and(|line| line == "exit 130"));
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(coloured.contains("error: ") && !coloured.contains('\u{1b}'), "{coloured:?}");
}
