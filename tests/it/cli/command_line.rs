//! The command line as a contract: exit codes, output streams, help texts.

use crate::kit::command::{assert_code, autonomy, commands, text};

#[tokio::test]
async fn help_and_version_go_to_stdout_with_exit_0() {
    for arguments in
        [&["--help"][..], &["--version"], &["registry", "seed", "--help"], &["registry", "serve", "--help"]]
    {
        let done = autonomy(arguments).await;
        assert_code(&done, 0);
        assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn help_lists_every_exit_code_and_every_documented_flag() {
    let help = text(&autonomy(&["--help"]).await);
    let lines = help.lines().skip_while(|line| *line != "Exit codes:");
    let codes: Vec<u8> = lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130]);
    let contract = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md")).unwrap();
    let rows = contract.lines().skip_while(|line| *line != "## 9. Exit codes");
    let rows: Vec<u8> = rows.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
    assert_eq!(rows, codes, "the contract's table has the same codes");
    let help = text(&autonomy(&["registry", "seed", "--help"]).await);
    for flag in [
        "--from",
        "--to",
        "--copy-policy",
        "--pub-key",
        "--skip-verify",
        "--rekor-key",
        "--require-tlog",
        "--allow-insecure-registry",
        "--out",
        "--transport",
        "--accessories",
        "--deep",
        "--jobs",
        "--output",
        "--progress",
        "--authfile",
        "--ca-file",
        "--cert-dir",
        "--verbose",
        "--quiet",
    ] {
        assert!(help.contains(flag), "{flag} is not in the help");
    }
}

#[tokio::test]
async fn the_readme_and_the_pages_name_every_flag_of_every_command() {
    let mut manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for page in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap() {
        manual.push_str(&std::fs::read_to_string(page.unwrap().path()).unwrap());
    }
    let commands = commands().await;
    let names: Vec<_> = commands.iter().map(|(command, _)| command.join(" ")).collect();
    for expected in ["registry seed-catalog", "registry sync", "registry rollback", "bundle seal", "verify"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not among {names:?}");
    }
    for (command, help) in &commands {
        let command = command.join(" ");
        assert!(manual.contains(command.trim_start_matches("registry ")), "{command} is on no page");
        let flags = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 3);
        // A value may follow the name, in brackets if it is optional.
        let name = |word: &str| word.split(['[', '=']).next().unwrap_or_default().to_owned();
        for flag in flags.map(|word| name(word.trim_end_matches([',', '.', ';', ':', ']', ')']))) {
            let is_known = ["--help", "--version", "--verbose", "--quiet"].contains(&flag.as_str());
            assert!(is_known || names_flag(&manual, &flag), "{flag} of {command} is on no page");
        }
    }
}

/// Whether a text has the flag as a word: `--out` does not match in `--output`.
fn names_flag(text: &str, flag: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    text.match_indices(flag).any(|(at, _)| ends(&text[at + flag.len()..]))
}

#[test]
fn a_flag_that_stands_in_a_longer_one_is_not_named() {
    assert!(names_flag("give `--out DIR`", "--out") && names_flag("--pub-key=x", "--pub-key"));
    assert!(!names_flag("give `--output json`", "--out") && !names_flag("--pub-key", "--pub"));
}

#[tokio::test]
async fn an_unknown_flag_is_a_usage_error_on_stderr() {
    let done = autonomy(&["registry", "seed", "--form", "a.example/b:c"]).await;
    assert_code(&done, 2);
    assert!(done.stdout.is_empty() && text(&done).contains("--from"), "{}", text(&done));
}

#[tokio::test]
async fn global_flags_may_stand_before_and_after_the_name_of_a_command() {
    let gc = ["gc", "--data-dir", "/nonexistent"];
    let json = ["--output", "json"];
    let before = autonomy(&[&json, &["registry"][..], &gc].concat()).await;
    let between = autonomy(&[&["registry"][..], &json, &gc].concat()).await;
    let after = autonomy(&[&["registry"][..], &gc, &json].concat()).await;
    for done in [before, between, after] {
        assert_code(&done, 4);
        let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&told["error"]["exit_code"], &told["error"]["kind"]), (&4.into(), &"not found".into()));
    }
}

#[tokio::test]
async fn quiet_excludes_flags_that_ask_for_more_wherever_they_are() {
    let verbose = "error: the argument '--quiet' cannot be used with '--verbose...'\n\nUsage: autonomy registry gc ";
    let progress =
        "error: the argument '--quiet' cannot be used with '--progress <PROGRESS>'\n\nUsage: autonomy registry seed ";
    for (line, expected) in [
        ("-q -v registry GC", verbose),
        ("-v registry -q GC", verbose),
        ("-q registry GC -v", verbose),
        ("-v registry GC -q", verbose),
        ("registry -q -v GC", verbose),
        ("registry -q GC -v", verbose),
        ("registry -vv GC -q", verbose),
        ("registry GC -q -v", verbose),
        ("-q registry SEED --progress plain", progress),
        ("registry -q SEED --progress auto", progress),
        ("registry SEED -q --progress plain", progress),
        ("registry SEED --progress plain -q", progress),
    ] {
        let seed = "seed --skip-verify --from 127.0.0.1:1/a:b --to 127.0.0.1:1/c:d";
        let line = line.replace("GC", "gc --data-dir /nonexistent").replace("SEED", seed);
        let done = autonomy(&line.split(' ').collect::<Vec<_>>()).await;
        assert_code(&done, 2);
        assert!(done.stdout.is_empty() && text(&done).starts_with(expected), "{line}: {}", text(&done));
    }
    for flags in [["-q", "registry", "-q"], ["-v", "registry", "-v"]] {
        assert_code(&autonomy(&[&flags[..2], &["gc", "--data-dir", "/nonexistent"], &flags[2..]].concat()).await, 4);
    }
}

#[tokio::test]
async fn serving_beyond_loopback_in_plain_http_needs_a_flag() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().to_str().unwrap();
    let done = autonomy(&["registry", "serve", "--listen", "0.0.0.0:0", "--data-dir", folder]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("--allow-insecure-registry"), "{}", text(&done));
}

#[tokio::test]
async fn a_certificate_needs_its_key_and_clients_need_a_certificate() {
    for arguments in [&["--tls-cert", "a.pem"][..], &["--tls-key", "a.pem"], &["--client-ca", "a.pem"]] {
        let done = autonomy(&[&["registry", "serve", "--data-dir", "/nonexistent"], arguments].concat()).await;
        assert_code(&done, 2);
    }
    let files = ["--tls-cert", "/nonexistent/a.pem", "--tls-key", "/nonexistent/a.key"];
    let done =
        autonomy(&[&["registry", "serve", "--listen", "0.0.0.0:0", "--data-dir", "/nonexistent"], &files[..]].concat())
            .await;
    assert_code(&done, 2);
    assert!(text(&done).contains("read certificate /nonexistent/a.pem"), "TLS needs no permission: {}", text(&done));
}

#[tokio::test]
async fn passwords_in_plain_text_beyond_this_machine_are_warned_of() {
    let home = tempfile::tempdir().unwrap();
    let users = home.path().join("users");
    std::fs::write(&users, "ann:nonsense").unwrap();
    for (listen, is_warned) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let fixed = ["registry", "serve", "--allow-insecure-registry", "--listen", listen, "--data-dir"];
        let done = autonomy(&[&fixed[..], &["/nonexistent", "--htpasswd", users.to_str().unwrap()]].concat()).await;
        // It fails because the file is unusable; the warning comes before that.
        assert_code(&done, 2);
        assert_eq!(
            text(&done).contains("warning: passwords cross the network in plain text"),
            is_warned,
            "{}",
            text(&done)
        );
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_is_a_local_failure() {
    let done = autonomy(&["registry", "serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/nowhere"]).await;
    assert_code(&done, 1);
    assert!(text(&done).contains("open the data folder /proc/nowhere"), "{}", text(&done));
}
