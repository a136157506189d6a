//! Runs the console blocks of a page and compares their output.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::page::{Block, Page, Step};
use super::world::{SIGNED, World};

/// A command and its output according to the page.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    command: String,
    expected: String,
}

/// The commands of a block: lines after `$ `, continued while a line ends with a backslash.
fn commands(text: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match (line.strip_prefix("$ "), shown.last_mut()) {
            (Some(command), _) => shown.push(Shown { command: command.to_owned(), expected: String::new() }),
            (None, Some(last)) if is_open => last.command = format!("{}\n{line}", last.command),
            (None, Some(last)) => last.expected.push_str(&format!("{line}\n")),
            (None, None) => panic!("a console block begins with `$ `, not {line:?}"),
        }
        is_open = line.ends_with('\\') && (is_open || line.starts_with("$ "));
    }
    shown
}

/// The counts and failures of one page.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) commands: usize,
    /// Blocks that are not run, with their reasons.
    pub(super) not_run: Vec<String>,
    pub(super) failures: Vec<String>,
}

pub(super) struct Shell {
    world: World,
    servers: Vec<Server>,
    ran: Ran,
}

impl Shell {
    pub(super) async fn run(page: &Page) -> Ran {
        let mut shell = Self { world: World::new(&page.name).await, servers: Vec::new(), ran: Ran::default() };
        SIGNED.iter().for_each(|command| shell.set_up(&page.name, command));
        for step in &page.steps {
            match step {
                Step::Stop => shell.stop(),
                Step::Setup(script) => {
                    commands(script).iter().for_each(|shown| shell.set_up(&page.name, &shown.command));
                }
                Step::Block(block) => shell.block(&page.name, block),
            }
        }
        shell.stop();
        shell.ran
    }

    fn set_up(&mut self, page: &str, command: &str) {
        if serves(command) {
            self.serve(command, 1);
            return;
        }
        let (code, printed) = self.finish(command);
        self.check(code == 0, || format!("{page}: setup {command}: exit {code}\n{printed}"));
    }

    fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.ran.failures.push(failure());
        }
    }

    fn block(&mut self, page: &str, block: &Block) {
        let at = format!("{page}:{}", block.line);
        if let Some(reason) = &block.not_run {
            return self.ran.not_run.push(format!("{at}: {reason}"));
        }
        if let Some(file) = &block.file {
            let path = self.world.home().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.world.inward(&block.text)).unwrap();
        }
        if block.language != "console" {
            return;
        }
        let shown = commands(&block.text);
        let count = shown.len();
        for (number, Shown { command, expected }) in shown.into_iter().enumerate() {
            self.ran.commands += 1;
            let wanted = if number + 1 == count { block.exit } else { 0 };
            let (code, printed) = if serves(&command) && wanted == 0 {
                (0, self.serve(&command, expected.lines().count()))
            } else {
                self.finish(&command)
            };
            self.check(code == wanted, || format!("{at}: {command}: exit {code}, not {wanted}\n{printed}"));
            let difference = compare(&printed, &expected);
            self.check(difference.is_none(), || format!("{at}: $ {command}\n{}", difference.unwrap_or_default()));
        }
    }

    fn command(&self, command: &str) -> (Child, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.world.inward(command)).current_dir(self.world.home());
        shell.env_clear().envs(self.world.environment()).stdin(Stdio::null());
        let child = shell.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        (child, reader)
    }

    /// Runs a command to its end. Returns its exit code and all its output.
    fn finish(&self, command: &str) -> (i32, String) {
        let (mut child, mut reader) = self.command(command);
        let mut printed = String::new();
        reader.read_to_string(&mut printed).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        (code, self.world.outward(command, &printed))
    }

    /// Starts a server that keeps running while later commands run. Returns its first lines.
    fn serve(&mut self, command: &str, lines: usize) -> String {
        self.stop();
        // The pages mean this port where they name none.
        let listen = if command.contains("--listen") { "" } else { " --listen 127.0.0.1:5000" };
        let (child, reader) = self.command(&format!("exec {command}{listen}"));
        let mut reader = BufReader::new(reader);
        let mut printed = String::new();
        for _ in 0..lines.max(1) {
            reader.read_line(&mut printed).unwrap();
        }
        self.servers.push(Server { child, _reader: reader });
        self.world.outward(command, &printed)
    }

    fn stop(&mut self) {
        self.servers.clear();
    }
}

/// Whether a command runs until a signal stops it.
fn serves(command: &str) -> bool {
    command.starts_with("autonomy registry serve ")
}

/// A program in the background, stopped when dropped.
struct Server {
    child: Child,
    _reader: BufReader<PipeReader>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        for _ in 0..500 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The difference between `printed` and `expected`, where `…` matches any text in a line and a line `...` any lines.
fn compare(printed: &str, expected: &str) -> Option<String> {
    let expected = snapbox::Data::text(expected.replace('…', "[..]"));
    let assert = snapbox::Assert::new();
    assert
        .try_eq(None, snapbox::Data::text(printed), expected)
        .err()
        .map(|difference| format!("{difference}\nprinted:\n{printed}"))
}

#[test]
fn commands_are_told_from_what_they_print() {
    let shown = commands("$ a \\\n    b\nout\n$ c\n");
    let of = |command: &str, expected: &str| Shown { command: command.to_owned(), expected: expected.to_owned() };
    assert_eq!(shown, [of("a \\\n    b", "out\n"), of("c", "")]);
}

#[test]
fn other_output_than_the_page_shows_is_a_difference() {
    assert_eq!(compare("digest 12ab of 3\nx\ny\n", "digest … of 3\n...\n"), None);
    for printed in ["digest 12ab of 4\n", "", "digest 12ab of 3\nmore\n", "digest of 3\n"] {
        assert!(compare(printed, "digest … of 3\n").is_some(), "{printed}");
    }
}
