//! `autonomy bundle seal`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::args::network::AccessArgs;
use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::terminal::interrupt::{tidy, unless_interrupted};
use crate::terminal::print;
use crate::wire::Client;
use crate::workflow::{self, SealContent, SealedBundle};

/// Makes a bundle of an image in a registry: packs the policy, puts lock and policy next to the image, signs all three
/// with the time of signing, and verifies the result. Without --policy, only the image is signed.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// The image: host[:port]/repository:tag
    #[arg(value_name = "REF")]
    image: Reference,
    /// Private key from bundle keygen or cosign; the password comes from COSIGN_PASSWORD or a prompt
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Folder of the policy: manifest.json and *.rego
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// The prompt, whose hash goes into the lock; without it, the hash of zero bytes
    #[arg(long, value_name = "FILE", requires = "policy")]
    prompt: Option<PathBuf>,
    /// The inputs of the tools; hashed like --prompt
    #[arg(long, value_name = "FILE", requires = "policy")]
    tool_inputs: Option<PathBuf>,
    /// Format of the signatures
    #[arg(long, value_enum, default_value_t = FormatArg::Legacy)]
    format: FormatArg,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Under the tag sha256-<hex>.sig: every version of cosign reads it
    Legacy,
    /// As a bundle that refers to the signed manifest: the format of cosign 3
    Bundle,
    /// Both
    Both,
}

impl Run for SealArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        if self.image.tag.is_none() && self.image.digest.is_none() {
            context.warn(format_args!("{} names no tag: latest is used", self.image));
        }
        let key = trust::signing_key("--key", &self.key).await?;
        let client = Client::new(self.access.client_for(&self.image.repository))?;
        let request = self.request();
        let stopped = Error::new(Kind::Interrupted, "seal").on(&self.image);
        let done = unless_interrupted(workflow::seal(&request, &key, &client), stopped).await;
        tidy(&client).await;
        let sealed = done?;
        for name in &sealed.left_out {
            context.warn(format_args!("{name} is left out: a policy is manifest.json and *.rego"));
        }
        sealed.weakened.iter().chain(&sealed.warnings).for_each(|text| context.warn(text));
        context.show(&sealed, human)
    }
}

impl SealArgs {
    fn request(&self) -> workflow::SealRequest {
        let content = self.policy.clone().map(|policy| SealContent {
            policy,
            prompt: self.prompt.clone(),
            tool_inputs: self.tool_inputs.clone(),
        });
        let format = match self.format {
            FormatArg::Legacy => workflow::SignatureFormat::Legacy,
            FormatArg::Bundle => workflow::SignatureFormat::Bundle,
            FormatArg::Both => workflow::SignatureFormat::Both,
        };
        workflow::SealRequest { image: self.image.clone(), content, format }
    }
}

fn human(sealed: &SealedBundle) {
    print::line(&format!("sealed {}", sealed.reference));
    let row = |name: &str, text: &str| print::line(&format!("  {name:<12} {text}"));
    row("digest", &sealed.digest.to_string());
    if let Some(lock) = &sealed.lock {
        row("lock", &format!("{} {}", lock.tag, lock.digest));
    }
    if let (Some(policy), Some(version)) = (&sealed.policy, &sealed.policy_bundle_version) {
        row("policy", &format!("{} {}, version {version}", policy.tag, policy.digest));
    }
    for line in sealed.verification.to_string().lines() {
        print::line(&format!("  {line}"));
    }
}
