//! The tools, as templates of command lines.
//!
//! A template is words between spaces, with places to fill in: `{from}` and `{to}` (references without a scheme),
//! `{from-host}`, `{to-host}`, `{out}` (an empty folder), and for tools that take many images at once `{catalog}` (ours),
//! `{regsync}` (regsync's) or `{list}` (a line `from to` an image). What names one of the last three runs once for a
//! catalog; what does not runs once an image.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::plan;
use crate::server::{self, AUTONOMY};
use crate::workload::{Before, Workload};

/// One tool that may be measured.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Whether it hashes every byte that it carries.
    pub(crate) is_checking: bool,
    /// For one image, if it can do that.
    each: Option<Vec<String>>,
    /// For a catalog at once, if it can do that.
    whole: Option<Vec<String>>,
    when: When,
}

/// Which workloads it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Where there is a round trip to hide: told to do more at once.
    Far,
    Catalog,
}

/// Where one run takes place.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// An empty folder for this run.
    pub(crate) folder: &'a Path,
    /// What the tool has for a home: its own, and the same in every round.
    pub(crate) home: &'a Path,
}

/// Places that stand for a whole catalog.
const WHOLE: [&str; 4] = ["{catalog}", "{regsync}", "{list}", "{plan}"];
const SEED: &str = "registry seed --from {from} --to {to} --out {out}";
const CATALOG: &str = "registry seed-catalog --catalog {catalog} --out {out}";
/// As the peers copy: nothing verified, nothing brought along.
const AS_PEERS: &str = "--allow-insecure-registry --skip-verify --accessories none --progress none";
const REGCTL: &str = "image copy --host reg={from-host},tls=disabled --host reg={to-host},tls=disabled {from} {to}";
const SKOPEO: &str = "--insecure-policy copy --all --quiet --src-tls-verify=false --dest-tls-verify=false \
    docker://{from} docker://{to}";
const ORAS: &str = "cp --from-plain-http --to-plain-http {from} {to}";

/// Our program, the bound, and every peer that is on this machine.
pub(crate) fn known() -> Vec<Tool> {
    let ours = [format!("{AUTONOMY} {SEED} {AS_PEERS}"), format!("{AUTONOMY} {CATALOG} {AS_PEERS}")];
    let mut tools =
        vec![Tool { is_checking: true, ..Tool::new("autonomy", Some(&ours[0]), Some(&ours[1]), When::Always) }];
    let this = std::env::current_exe().unwrap().display().to_string();
    for (name, streams, when) in [("bound", "{streams}", When::Always), ("bound-64", "64", When::Far)] {
        let template = format!("{this} bound {streams} {{plan}} {{from-host}} {{to-host}}");
        tools.push(Tool { is_checking: true, ..Tool::given(name, &template, when) });
    }
    let peers = [
        ("skopeo", "skopeo", SKOPEO, When::Always),
        ("regctl", "regctl", REGCTL, When::Always),
        ("regctl-16", "regctl", "image copy {from} {to}", When::Far),
        ("regsync", "regsync", "once -c {regsync}", When::Catalog),
        ("crane", "crane", "copy --insecure {from} {to}", When::Always),
        ("crane-16", "crane", "copy --insecure -j 16 {from} {to}", When::Far),
        ("oras", "oras", ORAS, When::Always),
        ("oras-16", "oras", "cp --concurrency 16 --from-plain-http --to-plain-http {from} {to}", When::Far),
    ];
    for (name, program, arguments, when) in peers {
        if let Some(program) = server::find(program) {
            // More requests at once can only be asked for in regctl's configuration.
            let env = if name == "regctl-16" { "env REGCTL_CONFIG={regctl} " } else { "" };
            let template = format!("{env}{} {arguments}", program.display());
            // oras leaves the checking of blobs to the destination.
            let is_checking = !name.starts_with("oras");
            tools.push(Tool { is_checking, ..Tool::given(name, &template, when) });
        }
    }
    tools
}

/// Reads `name=template`.
pub(crate) fn parse(text: &str) -> Result<Tool, String> {
    let (name, template) = text.split_once('=').ok_or("a tool is name=template")?;
    if !template.contains("{to}") && !WHOLE.iter().any(|place| template.contains(place)) {
        return Err(format!("the template of {name} has neither {{to}} nor one of {}", WHOLE.join(" ")));
    }
    Ok(Tool::given(name, template, When::Always))
}

impl Tool {
    fn new(name: &str, each: Option<&str>, whole: Option<&str>, when: When) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), is_checking: false, each: each.map(words), whole: whole.map(words), when }
    }

    fn given(name: &str, template: &str, when: When) -> Self {
        let is_whole = WHOLE.iter().any(|place| template.contains(place));
        let (each, whole) = if is_whole { (None, Some(template)) } else { (Some(template), None) };
        Self::new(name, each, whole, when)
    }

    /// Whether it is ours, or the bound.
    pub(crate) fn is_own(&self) -> bool {
        self.name == "autonomy" || self.name.starts_with("bound")
    }

    /// Whether it is measured on `workload`.
    pub(crate) fn suits(&self, workload: &Workload) -> bool {
        match self.when {
            When::Always => true,
            When::Far => !workload.link.round_trip.is_zero() && matches!(workload.before, Before::Nothing),
            When::Catalog => workload.entries.len() > 1,
        }
    }

    /// The processes that do it.
    pub(crate) fn commands(&self, place: &Place<'_>) -> Vec<Command> {
        let is_catalog = place.workload.entries.len() > 1;
        match (&self.each, &self.whole) {
            (each, Some(whole)) if is_catalog || each.is_none() => vec![place.command(whole, "")],
            (each, _) => {
                let entries = place.workload.entries.iter();
                let each = each.as_deref().unwrap_or_default();
                entries.map(|entry| place.command(each, &format!("{}:{}", entry.repository, entry.tag))).collect()
            }
        }
    }
}

impl Place<'_> {
    fn command(&self, template: &[String], entry: &str) -> Command {
        let mut words = template.iter().map(|word| self.fill(word, entry));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("HOME", self.home);
        // What a tool does must not hang on who runs it.
        for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command
    }

    fn fill(&self, word: &str, entry: &str) -> String {
        let file = |name: &str| self.folder.join(name);
        let mut word = word
            .replace("{from}", &format!("{}/{entry}", self.from))
            .replace("{to}", &format!("{}/{entry}", self.to))
            .replace("{from-host}", self.from)
            .replace("{to-host}", self.to)
            .replace("{streams}", if self.workload.link.round_trip.is_zero() { "4" } else { "16" })
            .replace("{out}", &file("out").display().to_string());
        for name in ["plan", "catalog", "list", "regsync", "regctl"] {
            let mark = format!("{{{name}}}");
            if word.contains(&mark) {
                let path = file(name);
                std::fs::write(&path, self.text(name)).unwrap();
                word = word.replace(&mark, &path.display().to_string());
            }
        }
        word
    }

    /// What stands in the file of that name.
    fn text(&self, name: &str) -> String {
        match name {
            "plan" => plan::plan(self.workload).iter().map(|task| format!("{task}\n")).collect(),
            "catalog" => self.pairs("version: 1\nentries:\n", |from, to| format!("  - from: {from}\n    to: {to}\n")),
            "list" => self.pairs("", |from, to| format!("{from} {to}\n")),
            "regsync" => self.regsync(),
            _ => self.regctl(),
        }
    }

    fn regsync(&self) -> String {
        let mut head = "version: 1\ncreds:\n".to_owned();
        for host in [self.from, self.to] {
            let _ = writeln!(head, "  - registry: {host}\n    tls: disabled");
        }
        head += "defaults:\n  parallel: 4\nsync:\n";
        self.pairs(&head, |from, to| format!("  - source: {from}\n    target: {to}\n    type: image\n"))
    }

    fn regctl(&self) -> String {
        let host = |host: &str| (host.to_owned(), json!({"tls": "disabled", "hostname": host, "reqConcurrent": 16}));
        json!({"hosts": serde_json::Map::from_iter([host(self.from), host(self.to)])}).to_string()
    }

    fn pairs(&self, head: &str, line: fn(&str, &str) -> String) -> String {
        let mut text = head.to_owned();
        for entry in &self.workload.entries {
            let name = format!("{}:{}", entry.repository, entry.tag);
            text += &line(&format!("{}/{name}", self.from), &format!("{}/{name}", self.to));
        }
        text
    }
}
