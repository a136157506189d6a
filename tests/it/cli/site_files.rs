//! `autonomy registry bootstrap-zot` and `package`, the whole program: the files they write, and that they leave all others
//! alone.

use std::path::{Path, PathBuf};
use std::process::Output;

use autonomy_registry::oci::Reference;
use autonomy_registry::serve::testkit::Testbed;
use serde_json::{Value, json};

use crate::kit::command::{assert_code, autonomy, text};

async fn bootstrap(out: &Path, more: &[&str]) -> Output {
    autonomy(&[&["registry", "bootstrap-zot", "--out", out.to_str().unwrap()], more].concat()).await
}

fn yaml(path: PathBuf) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn json_file(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[tokio::test]
async fn bootstrap_writes_a_configuration_and_a_compose_file_that_belong_together() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("site");
    let done = bootstrap(&out, &["--port", "5005"]).await;
    assert_code(&done, 0);
    assert_eq!(names(&out), ["docker-compose.zot.yml", "zot-config.json"], "and no folder for data");
    let config = json_file(out.join("zot-config.json"));
    assert_eq!((&config["storage"]["gc"], &config["storage"]["dedupe"]), (&json!(true), &json!(true)));
    assert_eq!((&config["http"]["port"], &config["http"]["address"]), (&json!("5005"), &json!("0.0.0.0")));
    assert_eq!(config.get("extensions"), None);

    let zot = &yaml(out.join("docker-compose.zot.yml"))["services"]["zot"];
    assert_eq!(zot["ports"], json!(["5005:5005"]));
    let image: Reference = zot["image"].as_str().unwrap().parse().unwrap();
    assert!(image.tag.unwrap().as_str().starts_with('v'), "a release and not latest");
    let mounts: Vec<_> =
        zot["volumes"].as_array().unwrap().iter().map(|mount| (&mount["source"], &mount["target"])).collect();
    assert_eq!(mounts[0], (&json!("./zot-config.json"), &zot["command"][1]), "what is mounted is what is read");
    assert_eq!(mounts[1], (&json!("./zot-data"), &config["storage"]["rootDirectory"]));
    assert!(text(&done).contains("docker compose -f") && text(&done).contains("localhost:5005"), "{}", text(&done));
    let data = out.join("zot-data").display().to_string();
    assert!(text(&done).contains(&data), "the folder as it is found from here, {data}: {}", text(&done));
}

#[tokio::test]
async fn search_data_folder_and_image_are_as_asked() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("da ta: $HOME #1");
    let image = "registry.example.com:5000/mirror/zot:v2.1.20";
    let more = ["--enable-search", "--data-dir", data.to_str().unwrap(), "--image", image, "--output", "json"];
    let done = bootstrap(home.path(), &more).await;
    assert_code(&done, 0);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["image"], &told["data_dir"], &told["port"]), (&json!(image), &json!(data), &json!(5000)));
    assert_eq!(json_file(home.path().join("zot-config.json"))["extensions"]["search"]["enable"], json!(true));
    let zot = &yaml(home.path().join("docker-compose.zot.yml"))["services"]["zot"];
    let source = data.to_str().unwrap().replace('$', "$$");
    assert_eq!((&zot["image"], &zot["volumes"][1]["source"]), (&json!(image), &json!(source)));
    assert!(!data.exists(), "nothing but the two files is made");
    let relative = bootstrap(home.path(), &["--data-dir", "here", "--force", "--output", "json"]).await;
    let told: Value = serde_json::from_slice(&relative.stdout).unwrap();
    assert!(Path::new(told["data_dir"].as_str().unwrap()).is_absolute(), "{told}");
}

#[tokio::test]
async fn files_that_are_there_stay_unless_force_is_given() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("docker-compose.zot.yml"), "mine").unwrap();
    let done = bootstrap(home.path(), &[]).await;
    assert_code(&done, 2);
    assert!(
        text(&done).contains("docker-compose.zot.yml: it exists") && text(&done).contains("--force"),
        "{}",
        text(&done)
    );
    assert_eq!(names(home.path()), ["docker-compose.zot.yml"], "not even the other one is written");
    assert_eq!(std::fs::read(home.path().join("docker-compose.zot.yml")).unwrap(), b"mine");
    assert_code(&bootstrap(home.path(), &["--force"]).await, 0);
    assert_code(&bootstrap(home.path(), &["--force", "--port", "5001"]).await, 0);
    assert_eq!(yaml(home.path().join("docker-compose.zot.yml"))["services"]["zot"]["ports"], json!(["5001:5001"]));
}

#[tokio::test]
async fn an_image_that_moves_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for image in ["ghcr.io/project-zot/zot", "ghcr.io/project-zot/zot:latest"] {
        let done = bootstrap(home.path(), &["--image", image]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains("is not pinned"), "{}", text(&done));
    }
    for wrong in [["--port", "0"], ["--port", "65536"], ["--image", "zot:v2"]] {
        assert_code(&bootstrap(home.path(), &wrong).await, 2);
    }
    assert_eq!(names(home.path()).len(), 0);
    let digest = autonomy_registry::oci::Digest::sha256(b"x");
    assert_code(&bootstrap(home.path(), &["--image", &format!("ghcr.io/project-zot/zot:latest@{digest}")]).await, 0);
}

/// A folder with a catalog in it.
fn catalog(text: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("catalog.yaml"), text).unwrap();
    home
}

async fn package(home: &Path, more: &[&str]) -> Output {
    let (catalog, out) = (home.join("catalog.yaml"), home.join("package"));
    let fixed = ["registry", "package", "--catalog", catalog.to_str().unwrap(), "--out", out.to_str().unwrap()];
    autonomy(&[&fixed, more].concat()).await
}

#[tokio::test]
async fn a_package_holds_the_catalogs_sources_and_nobody_is_contacted() {
    let bed = Testbed::start().await;
    let host = bed.host();
    let home = catalog(&format!(
        "version: 1\nentries:\n- {{from: '{host}/a:v1', to: 'b.io/a'}}\n- {{from: '{host}/b', to: 'b.io/b'}}\n\
         - {{from: '{host}/c', to: 'b.io/c', tags: [v1, 1.10]}}\n- {{from: '{host}/a:v1', to: 'b.io/copy'}}\n"
    ));
    let done = package(home.path(), &["--name", "My Fleet_2"]).await;
    assert_code(&done, 0);
    let images: Vec<_> = ["a:v1", "b", "c:v1", "c:1.10"].iter().map(|name| format!("{host}/{name}")).collect();
    let expected = json!({
        "apiVersion": "zarf.dev/v1alpha1",
        "kind": "ZarfPackageConfig",
        "metadata": {"name": "my-fleet-2", "version": "0.0.0"},
        "components": [{"name": "my-fleet-2", "required": true, "images": images}],
    });
    assert_eq!(yaml(home.path().join("package/zarf.yaml")), expected);
    assert_eq!(names(&home.path().join("package")), ["zarf.yaml"]);
    let told = text(&done);
    assert!(
        told.contains("warning: the package is named my-fleet-2")
            && told.contains(&format!("warning: {host}/b is not pinned")),
        "{told}"
    );
    assert_eq!(bed.requests(), 0);
    assert_code(&package(home.path(), &["--name", "x"]).await, 2);
    assert_code(&package(home.path(), &["--name", "x", "--version", "1.2.3", "--force"]).await, 0);
    assert_eq!(yaml(home.path().join("package/zarf.yaml"))["metadata"]["version"], "1.2.3");
}

#[tokio::test]
async fn a_package_holds_the_sidecars_that_an_entry_asks_for_and_the_signature_of_a_digest() {
    let digest = autonomy_registry::oci::Digest::sha256(b"x");
    let home = catalog(&format!(
        "version: 1\nentries:\n- {{from: 'a.io/a:v1', to: 'b.io/a', copy_policy: true, pub_key: k}}\n\
         - {{from: 'a.io/b@{digest}', to: 'b.io/b:v1', pub_key: k}}\n- {{from: 'a.io/c@{digest}', to: 'b.io/c:v1'}}\n\
         - {{from: 'a.io/d:v1', to: 'b.io/d', pub_key: k}}\n\
         - {{from: 'a.io/e', to: 'b.io/e', tags: [v1, v2], copy_policy: true, pub_key: k}}\n"
    ));
    assert_code(&package(home.path(), &["--name", "x"]).await, 0);
    let signature = format!("a.io/b:{}.sig", digest.to_string().replace(':', "-"));
    let (b, c) = (format!("a.io/b@{digest}"), format!("a.io/c@{digest}"));
    let expected = json!([
        "a.io/a:v1",
        "a.io/a:v1-lock",
        "a.io/a:v1-policy",
        b,
        signature,
        c,
        "a.io/d:v1",
        "a.io/e:v1",
        "a.io/e:v1-lock",
        "a.io/e:v1-policy",
        "a.io/e:v2",
        "a.io/e:v2-lock",
        "a.io/e:v2-policy"
    ]);
    assert_eq!(yaml(home.path().join("package/zarf.yaml"))["components"][0]["images"], expected);
}

#[tokio::test]
async fn a_catalog_that_cannot_be_packaged_is_refused_with_nothing_written() {
    let good = "version: 1\nentries:\n- {from: a.io/x:v1, to: b.io/x}\n";
    for (text_of_file, more, why) in [
        (good, &["--name", "***"][..], "leaves nothing for a package's name"),
        (good, &["--name", "x", "--version", "../1"], "is not a package's version"),
        (
            "version: 1\nentries:\n- {from: a.io/x, to: b.io/x, tags: 'v1.*'}\n",
            &["--name", "x"],
            "line 3: which tags of a.io/x it means",
        ),
        (
            "version: 1\nentries:\n- {from: a.io/x, to: b.io/x, tags: [v1], latest: 1}\n",
            &["--name", "x"],
            "line 3: which tags",
        ),
        (
            "version: 1\nentries:\n- {from: a.io/x:v1, too: b.io/x}\n",
            &["--name", "x"],
            "line 3, column 21: unknown key `too`",
        ),
    ] {
        let home = catalog(text_of_file);
        let done = package(home.path(), more).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(why), "{why}: {}", text(&done));
        assert_eq!(names(home.path()), ["catalog.yaml"]);
    }
    let home = tempfile::tempdir().unwrap();
    assert_code(&package(home.path(), &["--name", "x"]).await, 2);
}
