//! The program: a command line in, one command carried out, an exit code back.

mod args;
mod ask;
mod demo;
mod ls;
mod print;
mod rules;
mod screen;
mod signals;
mod stats;
mod status;

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use args::{Init, KeyWord, Line, Word};
use clap::Parser;
use mirra::command::{self, Command};
use mirra::report::Report;
use mirra::{Address, DEFAULT_PORT, Exit, Failure, Listen, Opened, Server, Started, Stop, words};
use screen::Screen;
use tracing_subscriber::EnvFilter;

/// Raised when the meaning of a field of the JSON output changes.
const JSON_VERSION: u32 = 1;

fn main() -> ExitCode {
    // What holds secret keys leaves no core file; where the system refuses, all works as well.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let line = Line::parse();
    let screen = Screen::new(line.quiet);
    start_logs(&line, &screen);
    let exit = carry_out(line, &screen).unwrap_or_else(|failure| {
        screen.shout(&failure.to_string());
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn start_logs(line: &Line, screen: &Screen) {
    let level = match (line.quiet, line.verbose) {
        (true, _) => "error",
        // Watches of directories that are gone already are no news for an operator.
        (_, 0) => "warn,notify=error",
        (_, 1) => "mirra=info,warn",
        _ => "mirra=debug,info",
    };
    let filter = EnvFilter::try_from_env("MIRRA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!plain && io::stderr().is_terminal())
        .with_writer(screen.clone())
        .init();
}

fn carry_out(line: Line, screen: &Screen) -> Result<Exit, Failure> {
    let home = line.home;
    match line.word {
        None => {
            if !mirra::is_ready(&home)? {
                first_run(&home, None, screen)?;
            }
            run(&home, Listen::default(), screen)
        }
        Some(Word::Run(args)) => run(&home, args.places(), screen),
        Some(Word::Init(args)) => {
            first_run(&home, Some(args), screen)?;
            screen.say("Next: mirra share DIR, or mirra sync HOST MODULE; then mirra run");
            Ok(Exit::Ok)
        }
        Some(Word::Share(args)) => share(&home, args, screen),
        Some(Word::Publish(args)) => {
            let command = Command::Publish(command::Publish { module: args.module, allow_delete: args.allow_delete });
            perform(&home, &command, command::TIMEOUT, args.json, screen)
        }
        Some(Word::Sync(args)) => sync(&home, args, screen),
        Some(Word::Unshare(args)) => leave(&home, args, Command::Unshare, screen),
        Some(Word::Unsync(args)) => leave(&home, args, Command::Unsync, screen),
        Some(Word::Pause(args)) => rest(&home, args, Command::Pause, screen),
        Some(Word::Resume(args)) => rest(&home, args, Command::Resume, screen),
        Some(Word::Ls(args)) => ls::ls(&args, screen),
        Some(Word::Demo(args)) => demo::demo(&args, screen),
        Some(Word::Status(args)) => status::status(&home, &args, screen),
        Some(Word::Key(args)) => match args.word {
            KeyWord::Show => {
                let keys = mirra::show_keys(&home)?;
                print::out(&format!("modules   {}\nidentity  {}\n", keys.authority_text(), keys.identity))
            }
        },
    }
}

/// Makes the home: `init` says what is known, a terminal is asked for the rest.
fn first_run(home: &Path, init: Option<Init>, screen: &Screen) -> Result<(), Failure> {
    let explicit = init.is_some();
    let init = init.unwrap_or(Init { name: None, port: None, web_port: None, no_web: false });
    let server = if has_terminal() {
        ask::server(init.name, init.port, &mut io::stdin().lock(), &mut io::stderr())?
    } else if let Some(name) = init.name {
        ask::named(&name, init.port.unwrap_or(DEFAULT_PORT))?
    } else {
        let what = if explicit { "the name is missing" } else { "there is no mirra here" };
        let fix = "mirra init --name NAME [--port PORT] [--no-web]";
        return Err(Failure::new(Exit::Usage, what, "there is no terminal to ask for its name", fix));
    };
    make(home, &Server { web: !init.no_web, web_port: init.web_port, ..server }, screen)
}

/// Makes the home that `share` and `sync` need: without a terminal to ask, it is named after its directory.
fn initialise(home: &Path, screen: &Screen) -> Result<(), Failure> {
    if mirra::is_ready(home)? {
        return Ok(());
    }
    if has_terminal() {
        return first_run(home, None, screen);
    }
    let place = absolute(home)?;
    let name = place.file_name().and_then(|name| name.to_str()).unwrap_or("mirra");
    let server = Server::new(name, DEFAULT_PORT).or_else(|_| Server::new("mirra", DEFAULT_PORT));
    let server =
        server.map_err(|why| Failure::new(Exit::Other, "cannot name this mirra", why, "mirra init --name NAME"))?;
    make(home, &server, screen)
}

fn make(home: &Path, server: &Server, screen: &Screen) -> Result<(), Failure> {
    let keys = mirra::init(home, server)?;
    let place = absolute(home)?.join(".mirra");
    screen.say(&format!(
        "{} is ready. Its keys are in {}/keys: keep a copy where nobody else reads it.\n\
         The key of its modules is {}",
        server.name,
        place.display(),
        keys.authority_text()
    ));
    Ok(())
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn run(home: &Path, listen: Listen, screen: &Screen) -> Result<Exit, Failure> {
    let stop = Stop::new();
    signals::listen_through_hangup(&stop)?;
    mirra::run(home, listen, &stop, |started| {
        let Started { config, address, web, metrics } = started;
        let modules = match config.modules.len() {
            0 => "no modules yet: mirra share DIR, or mirra sync HOST MODULE".to_owned(),
            1 => "1 module: mirra status".to_owned(),
            some => format!("{some} modules: mirra status"),
        };
        screen.say(&format!("{} listens on {address}; {modules}. Ctrl-C ends it.", config.server.name));
        if let Some(at) = metrics {
            screen.say(&format!("Its metrics are at http://{at}/metrics, for this machine alone."));
        }
        match web {
            Opened::Off => {}
            Opened::At(at) => screen.say(&format!("Its web pages are at {}", page_of(*at))),
            Opened::Instead { at, why, fix } => {
                screen.say(&format!("Its web pages are at {}, not at port 80: {why}. {fix}.", page_of(*at)));
            }
            Opened::Nowhere { address, why, fix } => {
                screen
                    .shout(&format!("It has no web pages: cannot listen on {address}: {why}. {fix}. All else works."));
            }
        }
    })?;
    screen.say("Ended.");
    Ok(Exit::Ok)
}

/// Where a browser on this machine finds the pages at `at`.
fn page_of(at: SocketAddr) -> String {
    let at = if at.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, at.port())) } else { at };
    if at.port() == 80 {
        let host = at.to_string();
        format!("http://{}/", host.strip_suffix(":80").unwrap_or(&host))
    } else {
        format!("http://{at}/")
    }
}

fn share(home: &Path, args: args::Share, screen: &Screen) -> Result<Exit, Failure> {
    let dir = absolute(&args.dir)?;
    // Before a home is made: what cannot be shared must not leave one behind.
    mirra::check_apart(&absolute(home)?, &dir, "share")?;
    if !dir.is_dir() {
        let fix = "make it first, it may be empty; or check how it is spelled";
        let why = if dir.exists() { "it is no directory" } else { "there is no such directory" };
        return Err(Failure::new(Exit::LocalFile, format!("cannot share {}", dir.display()), why, fix));
    }
    initialise(home, screen)?;
    let (name, title) = (args.name, args.title);
    let share = command::Share { dir, name, publish: args.publish, exclude: args.exclude, title };
    perform(home, &Command::Share(share), command::TIMEOUT, args.json, screen)
}

/// Ends a module. That its data goes as well is asked about, unless the operator has said so already.
fn leave(
    home: &Path,
    args: args::Leave,
    command: fn(command::Leave) -> Command,
    screen: &Screen,
) -> Result<Exit, Failure> {
    if args.delete_data && !args.yes {
        let what = format!("nothing is removed of {}", args.module);
        if !has_terminal() {
            let why = "there is no terminal to ask whether its data may go";
            return Err(Failure::new(Exit::Usage, what, why, "add --yes, or leave --delete-data out"));
        }
        let question = format!("Remove the module {} and all files in its directory? [y/N] ", args.module);
        if !ask::yes(&question, &mut io::stdin().lock(), &mut io::stderr())? {
            return Err(Failure::new(Exit::Interrupted, what, "the answer was not yes", "leave --delete-data out"));
        }
    }
    let leave = command::Leave { module: args.module, delete_data: args.delete_data };
    perform(home, &command(leave), command::TIMEOUT, args.json, screen)
}

/// Lets modules rest, or takes them up again.
fn rest(
    home: &Path,
    args: args::Which,
    command: fn(command::Which) -> Command,
    screen: &Screen,
) -> Result<Exit, Failure> {
    perform(home, &command(command::Which { module: args.module }), command::TIMEOUT, args.json, screen)
}

fn sync(home: &Path, args: args::Sync, screen: &Screen) -> Result<Exit, Failure> {
    let mut address = address(&args)?;
    if address.module.is_none() {
        address.module = Some(choose(&address, &args, screen)?);
    }
    let into = args.into.as_deref().map(absolute).transpose()?;
    if let Some(into) = &into {
        mirra::check_apart(&absolute(home)?, into, "sync into")?;
    }
    initialise(home, screen)?;
    let timeout_ms = u64::try_from(args.timeout.0.as_millis()).unwrap_or(u64::MAX);
    let (adopt, once, delete_excluded) = (args.adopt, args.once, args.delete_excluded);
    let filter = if args.no_filter { Some(Vec::new()) } else { args.rules.read()? };
    let seeds = args.seed.iter().map(|seed| absolute(seed)).collect::<Result<_, _>>()?;
    let address = address.to_string();
    let sync = command::Sync { address, into, adopt, once, seeds, filter, delete_excluded, timeout_ms };
    let (command, wait) = (Command::Sync(sync), args.timeout.0);
    let after = if args.stats { stats::text } else { nothing };
    finish_with(args.json, screen, after, |progress| mirra::perform(home, &command, wait, progress))
}

/// Has one of the host's modules chosen, on a terminal; without one it says which there are.
fn choose(address: &Address, args: &args::Sync, screen: &Screen) -> Result<String, Failure> {
    let stop = Stop::new();
    signals::listen(&stop)?;
    let progress = screen.progress(&stop);
    let listing = mirra::list(&address.host, args.timeout.0, &progress);
    drop(progress);
    let Report::Listing(mut listing) = listing? else {
        return Err(Failure::new(Exit::Other, "the modules cannot be listed", "an error in mirra itself", "report it"));
    };
    let host = &address.host;
    if listing.modules.is_empty() {
        let fix = "ask its owner, or share something there: mirra share DIR";
        return Err(Failure::new(Exit::NoModule, "there is nothing to follow", format!("{host} shares nothing"), fix));
    }
    let terminal = has_terminal();
    screen.shout(print::choices(&listing, terminal, SystemTime::now()).trim_end());
    let names: Vec<String> = listing.modules.drain(..).map(|one| one.module).collect();
    if !terminal {
        let fix = format!("name one of these: mirra sync {host} {}", names.first().map_or("MODULE", String::as_str));
        return Err(Failure::new(Exit::Usage, format!("cannot sync {}", args.source), "no module is named", fix));
    }
    ask::which(names, &mut io::stdin().lock(), &mut io::stderr())
}

/// The one address that host, module and key make; what module it is may still be open.
fn address(args: &args::Sync) -> Result<Address, Failure> {
    let usage = |why: String, fix: &str| Failure::new(Exit::Usage, format!("cannot sync {}", args.source), why, fix);
    let forms = "mirra sync HOST[:PORT] MODULE, or mirra sync mirra://HOST[:PORT]/MODULE#KEY";
    let mut address = Address::parse(&args.source).map_err(|e| usage(e.to_string(), forms))?;
    if let Some(module) = &args.module {
        if address.module.as_ref().is_some_and(|named| named != module) {
            return Err(usage(format!("it names another module than {module}"), "name the module once"));
        }
        address.module = Some(module.clone());
    }
    if let Some(text) = &args.key {
        let key = mirra::authority_from_text(text).ok_or_else(|| {
            usage("--key is not 52 characters of base32".into(), "copy the key as mirra share prints it")
        })?;
        if address.key.is_some_and(|named| named != key) {
            return Err(usage("it names another key than --key".into(), "name the key once"));
        }
        address.key = Some(key);
    }
    // What was put together is read again, so that a module that no mirra can have is refused here.
    Address::parse(&address.to_string()).map_err(|e| usage(e.to_string(), forms))
}

fn perform(home: &Path, command: &Command, wait: Duration, json: bool, screen: &Screen) -> Result<Exit, Failure> {
    finish(json, screen, |progress| mirra::perform(home, command, wait, progress))
}

/// No more than what is always said.
fn nothing(_: &Report) -> String {
    String::new()
}

/// Does the work with progress on the screen, and prints what came of it.
fn finish(
    json: bool,
    screen: &Screen,
    work: impl FnOnce(&screen::Drawing) -> Result<Report, Failure>,
) -> Result<Exit, Failure> {
    finish_with(json, screen, nothing, work)
}

/// As [`finish`], with what `more` says of the report.
fn finish_with(
    json: bool,
    screen: &Screen,
    more: fn(&Report) -> String,
    work: impl FnOnce(&screen::Drawing) -> Result<Report, Failure>,
) -> Result<Exit, Failure> {
    let stop = Stop::new();
    signals::listen(&stop)?;
    let progress = screen.progress(&stop);
    let result = work(&progress);
    drop(progress);
    match result {
        Ok(report) if json => {
            print_json(&report)?;
            Ok(report.exit())
        }
        Ok(report) => {
            let text = print::text(&report, SystemTime::now());
            print::out(&(text.result + &more(&report)))?;
            if !text.advice.is_empty() {
                screen.say(&text.advice);
            }
            Ok(report.exit())
        }
        Err(failure) => {
            if json {
                print_json(&serde_json::json!({ "failure": failure }))?;
            }
            Err(failure)
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<Exit, Failure> {
    #[derive(serde::Serialize)]
    struct Versioned<'a, T> {
        version: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    let text = serde_json::to_string(&Versioned { version: JSON_VERSION, value });
    let text = text.map_err(|e| Failure::new(Exit::Other, "cannot print JSON", e.to_string(), "leave --json out"))?;
    print::out(&format!("{text}\n"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::local(format!("cannot find {}", path.display()), &e))
}
