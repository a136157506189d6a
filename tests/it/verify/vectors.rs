//! The 56 machine-readable cases: verdict and class of each.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use autonomy_registry::error::Result;
use autonomy_registry::oci::{Digest, Reference};
use autonomy_registry::verify::{
    Candidate, Clock, Demands, ErrorClass, Failure, IdentityRule, Pipeline, PublicKey, SidecarDemand, Tlog, TrustTime,
    VerifyReport,
};
use serde::Deserialize;
use testkit::verify_site::{Referrers, Site, vectors};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    repo: String,
    host: String,
    verify: String,
    keys: Vec<String>,
    now: jiff::Timestamp,
    trust_time: bool,
    max_age: String,
    clock_skew: String,
    tags: BTreeMap<String, String>,
    referrers: BTreeMap<String, Vec<String>>,
    #[serde(default = "yes")]
    referrers_api: bool,
    #[serde(default)]
    identity_policy: Option<IdentityPolicy>,
    #[serde(default)]
    corrupt_blob: Option<Corrupt>,
    #[serde(default)]
    require_tlog: bool,
    #[serde(default)]
    require_lock: bool,
    #[serde(default)]
    require_policy: bool,
    expect: String,
    #[serde(default)]
    error_class: Option<String>,
    #[serde(default, rename = "cosign_3_1_behaviour")]
    _cosign: Option<String>,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(default, rename = "schema")]
    _schema: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct IdentityPolicy {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Corrupt {
    digest: Digest,
}

/// `8760h`, `5m`: the only forms in the cases.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "h" => 3600,
        "m" => 60,
        other => panic!("unit {other}"),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * seconds)
}

impl Case {
    async fn site(&self) -> Site {
        let site = Site {
            referrers: if self.referrers_api { Referrers::Api } else { Referrers::FallbackTag },
            corrupt: self.corrupt_blob.as_ref().map(|corrupt| corrupt.digest),
            ..Site::default()
        };
        for (tag, digest) in &self.tags {
            site.vector(digest, &[tag]).await;
        }
        for digest in self.referrers.values().flatten() {
            site.vector(digest, &[]).await;
        }
        site
    }

    fn reference(&self) -> Reference {
        let text = match self.verify.split_once(':').unwrap() {
            ("tag", tag) => format!("{}/{}:{tag}", self.host, self.repo),
            (_, digest) => format!("{}/{}@{digest}", self.host, self.repo),
        };
        text.parse().unwrap()
    }

    fn demands(&self) -> Result<Demands> {
        let keys =
            self.keys.iter().map(|key| PublicKey::from_pem(&fs::read(vectors().join("keys").join(key)).unwrap()));
        let sidecar = |is_required| if is_required { SidecarDemand::Required } else { SidecarDemand::NotAsked };
        Ok(Demands {
            max_age: duration(&self.max_age),
            clock_skew: duration(&self.clock_skew),
            trust_time: if self.trust_time { TrustTime::On } else { TrustTime::Off },
            identity: match self.identity_policy.as_ref().map(|policy| policy.kind.as_str()) {
                None => IdentityRule::Any,
                Some("matchRepository") => IdentityRule::MatchRepository,
                Some(other) => panic!("identity policy {other}"),
            },
            lock: sidecar(self.require_lock),
            policy: sidecar(self.require_policy),
            tlog: if self.require_tlog { Tlog::Required } else { Tlog::NotAsked },
            clock: Clock::Fixed(self.now),
            ..Demands::new(keys.collect::<Result<_>>()?)
        })
    }

    /// The program's behaviour: an unusable key becomes a report as well.
    async fn run(&self, site: &Site) -> VerifyReport {
        let reference = self.reference();
        let demands = match self.demands() {
            Ok(demands) => demands,
            Err(error) => return VerifyReport::unreached(reference, None, Failure::of(&error).unwrap()),
        };
        let subject = Candidate::resolve(site, &reference, &demands).await.unwrap();
        Pipeline::new(demands).run(site, &subject).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the test command shows the table")]
async fn every_case_ends_with_its_verdict_and_its_class() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(vectors().join("cases.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 56);
    let mut wrong = Vec::new();
    for case in &cases {
        let site = case.site().await;
        let report = case.run(&site).await;
        let verdict = if report.is_verified() { "pass" } else { "fail" };
        let class = report.failure().map(|(_, failure)| failure.class.as_str());
        let is_right = verdict == case.expect && class == case.error_class.as_deref();
        let told = |verdict: &str, class: Option<&str>| format!("{verdict} {}", class.unwrap_or(""));
        let (expected, ours) = (told(&case.expect, case.error_class.as_deref()), told(verdict, class));
        let (mark, requests) = (if is_right { "ok" } else { "WRONG" }, site.log().len());
        println!("table: vector {:<42} expected {expected:<27} ours {ours:<27} {mark}, {requests} requests", case.name);
        if !is_right {
            wrong.push(format!("{}: expected {} {:?}\n{report}", case.name, case.expect, case.error_class));
        }
        assert_eq!(report.clone().approve().is_ok(), report.is_verified(), "{}", case.name);
        if case.name == "legacy-declared-payload-too-large" || case.name == "legacy-1001-signatures" {
            assert_eq!(site.count("blob"), 0, "{}: nothing may be fetched", case.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn every_failing_case_tells_step_class_and_a_way_out() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(vectors().join("cases.json")).unwrap()).unwrap();
    for case in cases.iter().filter(|case| case.expect == "fail" && case.corrupt_blob.is_none()) {
        let report = case.run(&case.site().await).await;
        let error = report.clone().approve().unwrap_err();
        let (chain, class) = (error.chain(), case.error_class.as_deref().unwrap());
        assert_eq!(ErrorClass::of(&error).map(ErrorClass::as_str), Some(class), "{chain}");
        assert!(chain.contains(class) && error.hint_text().is_some(), "{chain}");
        assert!(report.to_string().contains(&format!("failed   {class}: ")), "{report}");
    }
}
