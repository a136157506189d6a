//! The command line, and the commands that write files beside an image.

mod command_line;
mod demo;
mod environment;
mod hints;
mod installing;
mod messages;
mod publish_index;
mod site_files;
