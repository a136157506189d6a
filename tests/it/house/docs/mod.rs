//! The documentation matches the program: its commands run, its links lead somewhere, its messages are the program's.

mod contract;
mod flags;
mod links;
mod messages;
mod page;
mod rooms;
mod shell;
mod world;

use page::{Page, Step, manual};
use shell::Shell;

/// Runs all commands of a page.
#[expect(clippy::print_stdout, reason = "says what was run, and what was not")]
async fn commands_of(name: &str) {
    let ran = Shell::run(&Page::read(name)).await;
    println!("{name}: {} commands were run", ran.commands);
    for block in &ran.not_run {
        println!("not run: {block}");
    }
    assert!(ran.failures.is_empty(), "{}", ran.failures.join("\n\n"));
}

/// A test for each page that has commands, and a list of them.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const RUN: &[&str] = &[$($page),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                commands_of($page).await;
            }
        )*
    };
}

pages! {
    the_commands_of_the_readme_print_what_it_says: "README.md",
    the_commands_of_install_print_what_it_says: "docs/install.md",
    the_commands_of_seed_print_what_it_says: "docs/seed.md",
    the_commands_of_catalogs_print_what_it_says: "docs/catalogs.md",
    the_commands_of_everyday_print_what_it_says: "docs/everyday.md",
    the_commands_of_trust_print_what_it_says: "docs/trust.md",
    the_commands_of_serve_print_what_it_says: "docs/serve.md",
    the_commands_of_logins_and_tls_print_what_it_says: "docs/logins-and-tls.md",
    the_commands_of_troubleshooting_print_what_it_says: "docs/troubleshooting.md",
}

/// Most blocks in the manual that may stay unrun: other programs, and blocks that take minutes.
const MOST_NOT_RUN: usize = 6;

#[test]
fn every_block_of_the_manual_is_run_or_says_why_not() {
    let mut not_run = 0;
    for page in manual() {
        for block in page.blocks() {
            let at = format!("{}:{}", page.name, block.line);
            not_run += usize::from(block.not_run.is_some());
            match &*block.language {
                "console" => {
                    let is_listed = RUN.contains(&&*page.name) || block.not_run.is_some();
                    assert!(is_listed, "{at}: {} is not in the list of pages whose commands are run", page.name);
                }
                "yaml" => assert!(block.file.is_some() || block.not_run.is_some(), "{at}: name the file that this is"),
                "text" => assert!(!block.text.contains("$ "), "{at}: commands stand in console blocks"),
                other => panic!("{at}: a block is console, yaml or text, not {other:?}"),
            }
        }
        let has_commands =
            page.steps.iter().any(|step| matches!(step, Step::Block(block) if block.language == "console"));
        assert!(has_commands || !RUN.contains(&&*page.name), "{} has no commands by now", page.name);
    }
    assert!(not_run <= MOST_NOT_RUN, "{not_run} blocks are not run");
}
