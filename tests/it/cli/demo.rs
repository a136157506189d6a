//! `autonomy registry demo`, the whole tour.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::kit::asking::client;
use crate::kit::command::{assert_code, autonomy, program, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_seeds_a_bundle_and_refuses_a_forgery_at_each_step() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("tour");
    let done = autonomy(&["registry", "demo", "--fast", "--out", out.to_str().unwrap()]).await;
    assert_code(&done, 0);
    let said = text(&done);
    for class in ["SIG_DIGEST_MISMATCH", "LOCK_AGENT_DIGEST", "FINGERPRINT_MISMATCH", "SEMVER_MISMATCH"] {
        assert_eq!(said.matches(class).count(), 1, "{class} in {said}");
    }
    assert!(said.contains("  verified   both ends: key ") && said.contains("Z; lock, policy\n"), "{said}");
    assert!(said.lines().count() <= 20 && said.lines().all(|line| line.len() <= 80), "{said}");
    let record = std::fs::read_to_string(out.join("record/seed-manifest.json")).unwrap();
    assert!(record.contains("\"verified\": true") && record.contains("linux/riscv64"), "{record}");
    assert!(out.join("site/repositories/robot-behavior/_layout/index.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_are_kept_answer_until_an_interrupt() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("tour");
    let mut command = program(&["registry", "demo", "--fast", "--keep", "--out", out.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.last().is_none_or(|line: &String| !line.contains("registry check")) {
        said.push(lines.next_line().await.unwrap().unwrap_or_else(|| panic!("{said:#?}")));
    }
    assert!(said.len() <= 20 && said.iter().all(|line| line.len() <= 80), "{said:#?}");
    // The three commands that it prints, as they are, in the folder that it names.
    let commands: Vec<_> = said.iter().skip_while(|line| !line.contains("until Ctrl-C")).skip(1).collect();
    assert!(commands.len() == 4 && commands[0].trim() == format!("cd {}", out.display()), "{said:#?}");
    let tried = commands[1..].iter().filter_map(|line| line.trim().strip_prefix("autonomy "));
    for words in tried {
        let mut command = program(&words.split(' ').collect::<Vec<_>>());
        assert_code(&command.current_dir(&out).output().await.unwrap(), 0);
    }
    let url = commands[2].trim().strip_prefix("curl ").unwrap();
    let tags = client().get(url).send().await.unwrap().text().await.unwrap();
    assert_eq!(tags.matches("v1").count(), 3, "the image, its lock and its policy: {tags}");
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(std::time::Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_tour_touches_no_folder_that_holds_something() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("mine"), "precious").unwrap();
    let done = autonomy(&["registry", "demo", "--fast", "--out", home.path().to_str().unwrap()]).await;
    assert_code(&done, 2);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}
