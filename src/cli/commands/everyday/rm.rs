//! `autonomy registry rm`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Args;

use super::Requests;
use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::Reference;
use crate::quantity::human;
use crate::terminal::interrupt::{interrupted, unless_interrupted};
use crate::terminal::print::Output;
use crate::terminal::{password, print};
use crate::wire::Client;
use crate::workflow::{Removal, RemovalFate, RemovalItem};

/// Removes an image with its signatures, everything else attached to it, and its lock and policy. A tag goes alone while
/// another tag names the same image; a digest that tags still name is refused (exit 6). Blobs and the manifests of
/// platforms stay until the registry collects its garbage. Shows everything and asks first.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The image: host[:port]/repository:tag, or @digest if no tag names it
    #[arg(value_name = "REF")]
    image: Reference,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    requests: Requests,
}

impl Run for Rm {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        if !self.yes && !self.dry_run && !io::stdin().is_terminal() {
            return Err(Error::new(Kind::Usage, "registry rm asks before it acts, and stdin is no terminal")
                .hint("give --yes to remove without being asked, or --dry-run to see what would be removed"));
        }
        let client = Client::new(self.access.client())?;
        client.check_credentials().await?;
        let mut removal = self.checked(&client).await?;
        if self.dry_run {
            return context.show(&removal, |removal| shown(removal, "nothing was removed"));
        }
        if !self.yes {
            ask(&removal).await?;
            // The answer may have taken a while.
            let again = self.checked(&client).await?;
            if !removal.is_same(&again) {
                return Err(Error::new(Kind::Refused, "remove")
                    .on(&self.image)
                    .because("something has changed since it was shown; nothing was removed")
                    .hint("run it again"));
            }
            removal = again;
        }
        let done = removal.act(interrupted()).await;
        let ended = context.show(&removal, |removal| shown(removal, ""))?;
        match done.err().or_else(|| removal.failure()) {
            // No JSON here: the report was printed as JSON already.
            Some(error) => Ok(print::failure(&error, Output::Human)),
            None => Ok(ended),
        }
    }
}

impl Rm {
    async fn checked(&self, client: &Client) -> Result<Removal> {
        let check = Removal::check(&self.image, client, self.requests.jobs);
        unless_interrupted(check, declined("interrupted; nothing was removed")).await
    }
}

/// Shows the items, and continues after a yes.
async fn ask(removal: &Removal) -> Result<()> {
    lines(removal).iter().for_each(|line| print::note(line));
    let count = removal.items.iter().filter(|item| item.fate == RemovalFate::Remove).count();
    match password::is_confirmed(&format!("Remove {}?", human::count(count as u64, "item"))).await {
        true => Ok(()),
        false => Err(declined("not confirmed; nothing was removed")),
    }
}

fn declined(why: &str) -> Error {
    Error::new(Kind::Interrupted, "remove").because(why.to_owned())
}

fn shown(removal: &Removal, end: &str) {
    lines(removal).iter().for_each(|line| print::line(line));
    let gone = removal.items.iter().filter(|item| item.fate.is_gone()).count();
    let end = if end.is_empty() {
        format!("{gone} of {} removed", human::count(removal.items.len() as u64, "item"))
    } else {
        end.to_owned()
    };
    print::line(&end);
}

fn lines(removal: &Removal) -> Vec<String> {
    let mut lines = vec![removal.reference.to_string()];
    lines.extend(removal.items.iter().map(|item| printable(&line(item))));
    if let [first, rest @ ..] = removal.also_named_by.as_slice() {
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!(" and {}", human::count(rest.len() as u64, "more tag"))
        };
        lines.push(format!("the image stays, with everything attached: {first}{more} names it too"));
    }
    lines
}

fn line(item: &RemovalItem) -> String {
    let RemovalItem { what, digest, fate, .. } = item;
    let name = item.tag().map_or_else(|| "-".to_owned(), |tag| short(tag.as_str()));
    let detail = match fate {
        RemovalFate::Kept { why } | RemovalFate::Left { why } | RemovalFate::Failed { why } => format!("  {why}"),
        RemovalFate::Moved { now } => format!("  names {} by now: left alone", now.short()),
        RemovalFate::Remove | RemovalFate::Removed | RemovalFate::Gone => String::new(),
    };
    format!("  {:<8} {what:<15} {}  {name}{detail}", fate.as_str(), digest.short())
}

/// Shortens the digest in the tag of an attachment, so that a line has room for it.
fn short(tag: &str) -> String {
    let hex = tag.strip_prefix("sha256-").filter(|rest| rest.len() >= 64 && rest.is_char_boundary(64));
    hex.map_or_else(|| tag.to_owned(), |rest| format!("sha256-{}…{}", &rest[..12], &rest[64..]))
}
