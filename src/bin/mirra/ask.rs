//! The questions: two of the first run, which module is meant, and whether data may go.

use std::io::{self, BufRead, Write};

use mirra::{DEFAULT_PORT, Exit, Failure, Server};

/// Times that one question is put.
const TRIES: usize = 5;

/// Asks for what is missing of name and port, until it will do.
pub(crate) fn server(
    name: Option<String>,
    port: Option<u16>,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> Result<Server, Failure> {
    let name = match name {
        Some(name) => name,
        None => question(from, to, "mirra name?: ", |text| Server::new(text, DEFAULT_PORT).map(|server| server.name))?,
    };
    let port = match port {
        Some(port) => port,
        None => question(from, to, &format!("mirra port? [{DEFAULT_PORT}]: "), |text| match text {
            "" => Ok(DEFAULT_PORT),
            text => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "a port is 1 to 65535".to_owned()),
        })?,
    };
    named(&name, port)
}

/// What is asked for on the command line, without a question.
pub(crate) fn named(name: &str, port: u16) -> Result<Server, Failure> {
    Server::new(name, port).map_err(|why| Failure::new(Exit::Usage, "that name will not do", why, "--name NAME"))
}

/// Asks which of `names` is meant: one of them, or its place among them.
pub(crate) fn which(names: Vec<String>, from: &mut impl BufRead, to: &mut impl Write) -> Result<String, Failure> {
    let named = |text: &str| {
        let place = text.parse::<usize>().ok().and_then(|place| names.get(place.checked_sub(1)?));
        let name = names.iter().find(|name| *name == text).or(place);
        name.cloned().ok_or_else(|| format!("there is no such module; answer 1 to {} or a name", names.len()))
    };
    question(from, to, "which module?: ", named)
        .map_err(|failure| Failure { fix: "name it: mirra sync HOST MODULE".to_owned(), ..failure })
}

/// Asks a question to which only a clear yes is one.
pub(crate) fn yes(text: &str, from: &mut impl BufRead, to: &mut impl Write) -> Result<bool, Failure> {
    let broken = |e: io::Error| Failure::local("cannot ask", &e);
    write!(to, "{text}").and_then(|()| to.flush()).map_err(broken)?;
    let mut line = String::new();
    from.read_line(&mut line).map_err(broken)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn question<T>(
    from: &mut impl BufRead,
    to: &mut impl Write,
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let broken = |e: io::Error| Failure::local("cannot ask", &e);
        write!(to, "{text}").and_then(|()| to.flush()).map_err(broken)?;
        let mut line = String::new();
        if from.read_line(&mut line).map_err(broken)? == 0 {
            last = "the input ended".into();
            break;
        }
        match read(line.trim()) {
            Ok(value) => return Ok(value),
            Err(why) => {
                writeln!(to, "{why}").map_err(broken)?;
                last = why;
            }
        }
    }
    let fix = "mirra init --name NAME --port PORT asks nothing";
    Err(Failure::new(Exit::Usage, "no answer that will do", last, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(input: &str) -> (Result<Server, Failure>, String) {
        let mut said = Vec::new();
        let result = server(None, None, &mut input.as_bytes(), &mut said);
        (result, String::from_utf8(said).unwrap())
    }

    #[test]
    fn two_questions_in_the_words_of_the_manual() {
        let (server, said) = ask("here\n\n");
        assert_eq!(said, "mirra name?: mirra port? [6007]: ");
        assert_eq!(server.unwrap(), Server::new("here", 6007).unwrap());
        assert_eq!(ask("  a b \n 7 \n").0.unwrap(), Server::new("a b", 7).unwrap());
    }

    #[test]
    fn wrong_answers_are_asked_again_and_an_end_is_an_end() {
        let (server, said) = ask("\nhere\n70000\n0\nx\n7\n");
        assert_eq!((server.unwrap().port, said.matches("port?").count()), (7, 4));
        assert_eq!(ask("here\n").0.unwrap_err().exit, Exit::Usage);
        assert_eq!(ask(&"\n".repeat(10)).1.matches("name?").count(), TRIES);
    }

    #[test]
    fn a_module_is_chosen_by_name_or_number() {
        let choose = |input: &str| {
            let names = ["a", "b", "1"].map(str::to_owned).to_vec();
            which(names, &mut input.as_bytes(), &mut io::sink()).map_err(|failure| failure.exit)
        };
        assert_eq!(choose("b\n"), Ok("b".into()));
        assert_eq!((choose("2\n"), choose("3\n")), (Ok("b".into()), Ok("1".into())));
        assert_eq!(choose("1\n"), Ok("1".into()), "a name goes before a number");
        assert_eq!(choose("0\n4\nc\n\na\n"), Ok("a".into()));
        assert_eq!((choose(""), choose(&"0\n".repeat(9))), (Err(Exit::Usage), Err(Exit::Usage)));
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        let answer = |input: &str| yes("?", &mut input.as_bytes(), &mut io::sink()).unwrap();
        assert!(answer("y\n") && answer(" YES \n"));
        assert!(["", "\n", "n\n", "yes please\n", "ja\n"].iter().all(|input| !answer(input)));
    }

    #[test]
    fn what_the_command_line_says_is_not_asked() {
        let mut said = Vec::new();
        server(Some("n".into()), Some(1), &mut io::empty(), &mut said).unwrap();
        assert!(said.is_empty());
    }
}
