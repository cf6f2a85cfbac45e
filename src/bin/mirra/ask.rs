//! The two questions of the first run.

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
    fn what_the_command_line_says_is_not_asked() {
        let mut said = Vec::new();
        server(Some("n".into()), Some(1), &mut io::empty(), &mut said).unwrap();
        assert!(said.is_empty());
    }
}
