//! Completions, manual pages, and the second name of the program.

use std::collections::BTreeSet;
use std::process::Stdio;

use tokio::process::Command;

use crate::kit::command::{assert_code, autonomy, commands, program, text};

/// The words that bash offers for a line, after it has read the script as it does when it starts.
async fn offered(script: &str, line: &str) -> Vec<String> {
    let words: Vec<_> = line.split(' ').collect();
    let call = format!(
        "{script}\n\
         set -- $(complete -p autonomy); while [ \"$1\" != -F ]; do shift; done; called=$2\n\
         compopt() {{ :; }}\n\
         COMP_WORDS=({line}) COMP_CWORD={last}\n\
         [ \"{empty}\" = \"\" ] && COMP_WORDS+=('')\n\
         $called autonomy \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        last = words.len() - 1,
        empty = words.last().unwrap(),
    );
    let mut bash = Command::new("bash");
    let done = bash.args(["--noprofile", "--norc", "-c", &call]).stdin(Stdio::null()).output().await.unwrap();
    assert_code(&done, 0);
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    let done = autonomy(&["completion", "bash"]).await;
    assert_code(&done, 0);
    let script = String::from_utf8(done.stdout).unwrap();
    assert_eq!(offered(&script, "autonomy regi").await, ["registry"]);
    assert_eq!(offered(&script, "autonomy registry seed-").await, ["seed-catalog"]);
    assert_eq!(offered(&script, "autonomy bundle verify-").await, ["verify-blob"]);
    assert_eq!(offered(&script, "autonomy registry seed --skip-").await, ["--skip-verify"]);
    assert_eq!(offered(&script, "autonomy registry seed --transport sk").await, ["skopeo"]);
    assert_eq!(offered(&script, "autonomy completion po").await, ["powershell"]);
    let all: BTreeSet<_> = offered(&script, "autonomy ").await.into_iter().collect();
    assert!(["registry", "bundle", "verify", "completion", "man"].iter().all(|name| all.contains(*name)), "{all:?}");
}

#[tokio::test]
async fn each_shell_has_a_script_of_its_own_and_others_are_refused() {
    let mut scripts = BTreeSet::new();
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef autonomy"),
        ("fish", "complete -c autonomy"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let done = autonomy(&["completion", shell]).await;
        assert_code(&done, 0);
        let script = text(&done);
        assert!(script.contains(sign) && script.contains("publish-index"), "{shell}");
        scripts.insert(script);
    }
    assert_eq!(scripts.len(), 4);
    let json = autonomy(&["completion", "fish", "--output", "json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["shell"], "fish");
    assert!(json["script"].as_str().unwrap().contains("complete -c autonomy"));
    assert_code(&autonomy(&["completion", "tcsh"]).await, 2);
}

#[tokio::test]
async fn every_command_has_a_manual_page_that_names_its_flags() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("man1");
    let done = autonomy(&["man", "--out", out.to_str().unwrap(), "--output", "json"]).await;
    assert_code(&done, 0);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let told: BTreeSet<_> = told["pages"].as_array().unwrap().iter().map(|page| page.as_str().unwrap()).collect();
    let written: BTreeSet<_> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(told, written.iter().map(String::as_str).collect());
    for (command, help) in commands().await {
        let name = format!("autonomy-{}.1", command.join("-"));
        assert!(written.contains(&name), "there is no {name}");
        let page = std::fs::read_to_string(out.join(&name)).unwrap().replace("\\-", "-");
        let flags = help.lines().filter_map(|line| line.trim_start().split(", ").find_map(long_flag));
        for flag in flags {
            assert!(page.contains(flag), "{name} does not name {flag}");
        }
    }
    for parent in ["autonomy.1", "autonomy-registry.1", "autonomy-bundle.1"] {
        assert!(written.contains(parent), "there is no {parent}");
    }
    let top = std::fs::read_to_string(out.join("autonomy.1")).unwrap();
    assert!(top.contains("interrupted; the destination tag was not moved"), "the exit codes are on the first page");
}

/// The long flag at the start of a line of a help text. Pages do not name aliases, which stand at the end of brackets.
fn long_flag(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    let (flag, rest) = text.split_at(end);
    Some(flag).filter(|flag| flag.starts_with("--") && flag.len() > 3 && rest != "]")
}

#[tokio::test]
async fn under_its_second_name_the_program_needs_no_word_registry() {
    let home = tempfile::tempdir().unwrap();
    let link = home.path().join("autonomy-registry");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_autonomy"), &link).unwrap();
    let run = async |words: &[&str]| Command::new(&link).args(words).output().await.unwrap();
    let gc = ["gc", "--data-dir", "/nonexistent", "--output", "json"];
    for words in [&gc[..], &[&["registry"], &gc[..]].concat(), &[&gc[3..], &gc[..3]].concat()] {
        let done = run(words).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("\"exit_code\": 4"), "{words:?}: {}", text(&done));
    }
    for words in [&["bundle", "verify", "--help"][..], &["completion", "bash"], &["--version"]] {
        assert_code(&run(words).await, 0);
    }
    let typo = run(&["seeed"]).await;
    assert_code(&typo, 2);
    assert!(text(&typo).contains("'seed'"), "{}", text(&typo));
}

#[tokio::test]
async fn an_unknown_command_is_explained() {
    for (words, tip) in [
        ("seed --from a.example/b:c", "tip: write 'autonomy registry seed'"),
        ("run robot", "install this one as autonomy-registry beside it"),
        ("--output json run", "if 'run' is a command of another program named autonomy"),
        ("regsitry seed", "tip: a similar subcommand exists: 'registry'"),
    ] {
        let done = program(&words.split(' ').collect::<Vec<_>>()).output().await.unwrap();
        assert_code(&done, 2);
        let told = text(&done);
        assert!(told.starts_with("error: unrecognized subcommand") && told.contains(tip), "{words}: {told}");
    }
    let below = text(&autonomy(&["bundle", "run"]).await);
    assert!(below.contains("unrecognized subcommand 'run'") && !below.contains("another program"), "{below}");
}
