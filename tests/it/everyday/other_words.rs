//! Commands of other tools get the command of this program as a hint.

use crate::kit::command::{assert_code, autonomy, commands, text};

#[tokio::test]
async fn a_command_of_another_tool_is_answered_with_ours() {
    for (words, hint) in [
        (&["copy", "cp", "pull", "push"][..], "autonomy registry seed --from REF --to REF --pub-key FILE"),
        (&["replicate"], "autonomy registry sync --from-registry HOST"),
        (&["list", "tags", "list-tags", "catalog"], "autonomy registry ls HOST[/REPOSITORY]"),
        (&["show", "manifest", "digest"], "autonomy registry inspect REF"),
        (&["delete", "remove", "untag"], "autonomy registry rm REF --dry-run"),
        (&["prune"], "autonomy registry gc --data-dir DIR"),
    ] {
        for word in words {
            for line in [&["registry", word, "a.example/b:c", "d.example/e:f"][..], &[word]] {
                let done = autonomy(line).await;
                assert_code(&done, 2);
                assert!(done.stdout.is_empty() && text(&done).contains(hint), "{line:?}: {}", text(&done));
            }
        }
    }
    let done = autonomy(&["registry", "seeed"]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("unrecognized subcommand"), "{}", text(&done));
}

#[tokio::test]
async fn only_commands_that_exist_are_named_in_hints() {
    let names: Vec<_> = commands().await.into_iter().map(|(command, _)| command.join(" ")).collect();
    for word in ["copy", "replicate", "list", "show", "delete", "prune"] {
        let said = text(&autonomy(&["registry", word]).await);
        let command = said.split("autonomy ").nth(1).unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        assert!(names.contains(&command), "{word}: {command}");
    }
}
