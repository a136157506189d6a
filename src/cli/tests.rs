use super::*;

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::ArgAction;
use command_line::examples::EXAMPLES;
use command_line::foreign_flags::{FOREIGN_FLAGS, flags};

/// Every command with its path.
fn commands() -> Vec<(String, clap::Command)> {
    fn below(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        found.push((path.to_owned(), command.clone()));
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            below(inner, &format!("{path} {}", inner.get_name()), found);
        }
    }
    let mut root = command_line::definition::<Autonomy>();
    root.build();
    let mut found = Vec::new();
    below(&root, "autonomy", &mut found);
    found
}

fn parse(line: &str) -> Result<command_line::Parsed<Autonomy>, clap::Error> {
    command_line::parse(line.split_whitespace().map(OsString::from).collect())
}

/// The text of the error for a command line.
fn refusal(line: &str) -> String {
    let Err(error) = parse(line) else { panic!("{line} is accepted") };
    error.render().to_string()
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    command_line::definition::<Autonomy>().debug_assert();
}

#[test]
fn every_command_has_examples_and_each_of_them_is_accepted() {
    let paths: BTreeSet<_> = commands().into_iter().map(|(path, _)| path).collect();
    let with_examples: BTreeSet<_> = EXAMPLES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(paths, with_examples, "each command has examples, and no others do");
    for (path, lines) in EXAMPLES {
        assert!((2..=3).contains(&lines.lines().count()), "{path}: two or three lines");
        for line in lines.lines() {
            let line = line
                .split([' ', '\n'])
                .take_while(|word| !["<", ">", ">>"].contains(word))
                .collect::<Vec<_>>()
                .join(" ");
            assert!(line.starts_with("autonomy "), "{line}");
            assert!(line.starts_with(path), "{path} has an example of another command: {line}");
            if let Err(error) = parse(&line) {
                panic!("{line}: {}", error.render());
            }
        }
    }
}

#[test]
fn help_shows_the_examples_before_other_notes() {
    for (path, command) in commands() {
        let help = command.clone().render_long_help().to_string();
        let (_, lines) = EXAMPLES.iter().find(|(of, _)| *of == path).unwrap();
        let first = lines.lines().next().unwrap();
        // Lines are wrapped at spaces.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&help).contains(&words(&format!("Examples: {first}"))), "{path}: {help}");
    }
}

/// Words in the names of flags that weaken a check, or that act without being asked.
const WEAKENING: [&str; 10] = [
    "skip-verify",
    "pinned",
    "allow-",
    "accept-",
    "adopt-set",
    "force",
    "yes",
    "as-image",
    "rewrite-index",
    "insecure",
];

#[test]
fn variables_stand_in_for_flags_with_values_and_never_for_one_that_weakens() {
    let mut names = BTreeSet::new();
    for (path, command) in commands() {
        for argument in command.get_arguments() {
            let Some(name) = argument.get_env() else { continue };
            let (name, flag) = (name.to_str().unwrap().to_owned(), argument.get_long().unwrap());
            assert!(name.starts_with("AUTONOMY_"), "{name}");
            assert!(!WEAKENING.iter().any(|word| flag.contains(word)), "{path}: {name} stands in for --{flag}");
            assert!(
                matches!(argument.get_action(), ArgAction::Set | ArgAction::Append),
                "{path}: --{flag} is a switch"
            );
            assert!(!argument.is_global_set(), "{path}: {name}");
            let spelt = name.trim_start_matches("AUTONOMY_").to_lowercase().replace('_', "-");
            assert!(spelt == flag || (spelt, flag) == ("pub-key".to_owned(), "pub"), "{path}: {name} is --{flag}");
            names.insert(name);
        }
    }
    for expected in
        ["PUB_KEY", "OUT", "SPOOL", "AUTHFILE", "CA_FILE", "CERT_DIR", "JOBS", "PROGRESS", "DATA_DIR", "CATALOG"]
    {
        assert!(names.contains(&format!("AUTONOMY_{expected}")), "{expected} is not among {names:?}");
    }
}

#[test]
fn every_switch_takes_true_and_false() {
    for (path, command) in commands() {
        for argument in command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue)) {
            let Some(long) = argument.get_long() else { continue };
            // Only the parsing of this word counts: other arguments may be missing.
            for word in [format!("--{long}=true"), format!("--{long}=false")] {
                if let Err(error) = parse(&format!("{path} {word}")) {
                    let told = error.render().to_string();
                    assert!(
                        !told.contains(&format!("'--{long}")) || !told.contains("unexpected"),
                        "{path} {word}: {told}"
                    );
                }
            }
            let told = refusal(&format!("{path} --{long}=maybe"));
            assert!(told.contains(&format!("write --{long}, --{long}=true or --{long}=false")), "{path}: {told}");
        }
    }
}

#[test]
fn the_last_value_of_a_switch_counts() {
    let seed = |more: &str| {
        let line = format!("autonomy registry seed --from a.example/b:c --to d.example/e {more}");
        match parse(&line).map(|parsed| parsed.command.command) {
            Ok(Command::Registry(RegistryCommand::Seed(seed))) => format!("{seed:?}").contains("copy_policy: true"),
            _ => panic!("{line}"),
        }
    };
    for (flags, expected) in [
        ("--copy-policy=true", true),
        ("--copy-policy", true),
        ("--copy-policy=false", false),
        ("--copy-policy --copy-policy=false", false),
        ("--copy-policy=true --copy-policy=false", false),
        ("--copy-policy=false --copy-policy=true", true),
    ] {
        assert_eq!(seed(flags), expected, "{flags}");
    }
    assert!(
        parse("autonomy registry seed --from a.example/b:c --to d.example/e --skip-verify=false --pub-key k").is_ok()
    );
    let told = refusal("autonomy registry seed --from a.example/b:c --to d.example/e -- --copy-policy=true");
    assert!(told.contains("--copy-policy=true"), "what follows -- stays as it is: {told}");
}

#[test]
fn a_group_without_a_command_shows_its_help_as_a_request_for_it_does() {
    for line in ["autonomy", "autonomy registry", "autonomy bundle"] {
        let Err(error) = parse(line) else { panic!("{line}") };
        assert_eq!((error.exit_code(), error.use_stderr()), (0, false), "{line}");
        assert!(error.render().to_string().contains("Examples:"), "{line}");
    }
    assert_eq!(parse("autonomy registry nothing").map(|_| ()).unwrap_err().exit_code(), 2);
}

#[test]
fn flags_of_other_programs_get_the_flag_of_this_one() {
    let commands: Vec<_> =
        commands().into_iter().filter(|(_, command)| command.get_subcommands().next().is_none()).collect();
    let mut used = BTreeSet::new();
    for (path, command) in &commands {
        let has = |flag: &str| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
        let is_own = |spelling: &str| match spelling.strip_prefix("--") {
            Some(long) => has(long),
            None => command.get_arguments().any(|argument| argument.get_short() == spelling.chars().nth(1)),
        };
        for spelling in FOREIGN_FLAGS.iter().flat_map(|row| row.spellings).filter(|spelling| !is_own(spelling)) {
            let mut rows = FOREIGN_FLAGS.iter().filter(|row| row.spellings.contains(spelling));
            let Some(row) = rows.find(|row| flags(row.tip).all(has)) else { continue };
            used.insert(row.tip);
            let told = refusal(&format!("{path} {spelling}"));
            assert!(told.contains(&format!("tip: {}", row.tip)), "{path} {spelling}: {told}");
            assert!(!told.contains("a similar argument"), "{path} {spelling}: {told}");
        }
    }
    for row in &FOREIGN_FLAGS {
        assert!(used.contains(row.tip), "no command has the flags of: {}", row.tip);
    }
}

#[test]
fn flags_of_the_issue_have_a_tip_where_people_type_them() {
    for (line, tip) in [
        ("autonomy registry seed --tls-verify=false", "--allow-insecure-registry permits plain HTTP"),
        ("autonomy registry login r.example -p secret", "--password-stdin"),
        ("autonomy registry login r.example --username ann", "--user USER"),
        ("autonomy registry serve -p 5000", "--port N"),
        ("autonomy registry seed --src-creds ann:secret", "autonomy registry login HOST"),
        ("autonomy registry seed r.example/a:1 s.example/a:1", "--from REF --to REF"),
        ("autonomy registry seed --from docker://r.example/a:1", "write r.example/a:1"),
        ("autonomy registry seed --from oci://r.example/a:1", "charts"),
        ("autonomy registry seed --to localhost:5705", "write localhost:5705/<repository>:<tag>"),
        ("autonomy registry seed --from r.example/chart:1.0+2", "write 1.0_2"),
        ("autonomy registry seed --jobs 0", "1 is the least"),
        ("autonomy registry serve --listen :5000", "write 127.0.0.1:5000"),
        ("autonomy registry serve --listen localhost:5000", "write 127.0.0.1:5000"),
    ] {
        assert!(refusal(line).contains(tip), "{line}: {}", refusal(line));
    }
    assert!(!refusal("autonomy registry seed --src-creds ann:secret").contains("secret"));
    assert!(!refusal("autonomy registry login r.example -p secret").contains("secret"));
}
