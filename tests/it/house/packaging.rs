//! Units, manifests and the image call the program as it is: each command exists, and each of its flags.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kit::command::commands;
use crate::kit::files::files_below;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The documents of a file of YAML.
fn documents(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every value below `value` under `key`.
fn below<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|value| below(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| below(value, key, found)),
        _ => {}
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The calls of the program in packaging/, as words after its name, with the file of each.
fn calls() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let units = files_below(&packaging().join("systemd"), ".service");
    for path in units {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/autonomy ")) {
            found.push((path.display().to_string(), line.split(' ').map(str::to_owned).collect()));
        }
    }
    for path in files_below(&packaging().join("kubernetes"), ".yaml") {
        for document in documents(&path) {
            let mut containers = Vec::new();
            below(&document, "args", &mut containers);
            found.extend(containers.into_iter().map(|args| (path.display().to_string(), words(args))));
        }
    }
    let image = std::fs::read_to_string(packaging().join("image/Containerfile")).unwrap();
    let default = image.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    found.push(("Containerfile".to_owned(), words(&serde_json::from_str(default).unwrap())));
    found
}

/// The flags of a call that its command does not have; all of them if there is no such command.
fn unknown<'a>(call: &'a [String], commands: &[(Vec<String>, String)]) -> Vec<&'a str> {
    let flags = call.iter().filter(|word| word.starts_with("--"));
    let flags = flags.map(|flag| flag.split('=').next().unwrap_or_default());
    let help = commands.iter().find(|(name, _)| call.starts_with(name)).map(|(_, help)| help.as_str());
    let words: Vec<_> = help.unwrap_or_default().split([' ', '\n', '[', '=', ',']).collect();
    flags.filter(|flag| !words.contains(flag)).collect()
}

#[tokio::test]
async fn what_starts_the_program_knows_its_commands_and_flags() {
    let (calls, commands) = (calls(), commands().await);
    assert_eq!(calls.len(), 5, "{calls:?}");
    for (file, call) in &calls {
        let unknown = unknown(call, &commands);
        assert!(unknown.is_empty(), "{file}: {} has no {unknown:?}", call.join(" "));
    }
    let wrong = ["registry".to_owned(), "serve".to_owned(), "--data-dirs=/x".to_owned()];
    assert_eq!(unknown(&wrong, &commands), ["--data-dirs"]);
    assert_eq!(unknown(&["registry".to_owned(), "--x".to_owned()], &commands), ["--x"]);
}

#[test]
fn pods_run_without_root_and_without_a_writable_root_file_system() {
    let mut containers = 0;
    for path in files_below(&packaging().join("kubernetes"), ".yaml") {
        for document in documents(&path) {
            let kind = document["kind"].as_str().unwrap_or_default();
            let mut found = Vec::new();
            below(&document, "containers", &mut found);
            for container in found.iter().flat_map(|list| list.as_array().unwrap()) {
                containers += 1;
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{kind}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{kind}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{kind}");
                let mut pods = Vec::new();
                below(&document, "automountServiceAccountToken", &mut pods);
                assert_eq!(pods, [&Value::Bool(false)], "{kind}");
                let mut users = Vec::new();
                below(&document, "runAsNonRoot", &mut users);
                assert_eq!(users, [&Value::Bool(true)], "{kind}");
            }
            // A mount without its volume is refused only in the cluster.
            let mut volumes = Vec::new();
            below(&document, "volumes", &mut volumes);
            below(&document, "volumeClaimTemplates", &mut volumes);
            let names = serde_json::to_string(&volumes).unwrap();
            let mut mounts = Vec::new();
            below(&document, "volumeMounts", &mut mounts);
            for mount in mounts.iter().flat_map(|list| list.as_array().unwrap()) {
                assert!(names.contains(&format!("\"name\":{}", mount["name"])), "{kind}: no volume {}", mount["name"]);
            }
        }
    }
    assert_eq!(containers, 2);
}
