//! A headless Chromium, told what to do over its pipe: JSON that ends with a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::PATIENCE;
use super::programs::Program;
use crate::fixture::wait_for;

/// A browser with one page; ended when dropped.
pub(super) struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    /// What happened meanwhile, oldest first.
    events: Vec<Value>,
    session: Option<String>,
    asked: u64,
    /// Its profile, and what it downloads.
    place: TempDir,
}

impl Browser {
    /// Starts it; `None` where it is not installed.
    pub(super) fn start() -> Option<Self> {
        let program = Program::find("chromium")?;
        let place = tempdir().unwrap();
        let profile = format!("--user-data-dir={}", place.path().join("profile").display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--remote-debugging-pipe",
            &profile,
        ];
        // It takes orders from descriptor 3 and answers on 4.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3<&0 4>&1", "sh"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        program.hand_to(&mut shell, place.path(), &args);
        let mut child = shell.stderr(Stdio::null()).spawn().unwrap();
        let (orders, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(said).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, orders, answers, events: Vec::new(), session: None, asked: 0, place };
        let downloads = browser.place.path().to_str().unwrap().to_owned();
        let behavior = json!({"behavior": "allow", "downloadPath": downloads, "eventsEnabled": true});
        browser.call("Browser.setDownloadBehavior", behavior);
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for room in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{room}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Does `method` and gives what it gives.
    #[track_caller]
    pub(super) fn call(&mut self, method: &str, params: Value) -> Value {
        self.attempt(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Does `method` and gives what it gives, or the browser's reason against it.
    #[track_caller]
    fn attempt(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.asked += 1;
        let mut order = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        loop {
            let mut message = self.next();
            if message["id"] == self.asked {
                return match message["error"].take() {
                    Value::Null => Ok(message["result"].take()),
                    error => Err(error),
                };
            }
            self.events.push(message);
        }
    }

    /// Waits until something happens for which `fits` says so.
    #[track_caller]
    fn happens(&mut self, method: &str, fits: impl Fn(&Value) -> bool) {
        loop {
            let event = self.next();
            let found = event["method"] == method && fits(&event["params"]);
            self.events.push(event);
            if found {
                return;
            }
        }
    }

    #[track_caller]
    fn next(&self) -> Value {
        self.answers.recv_timeout(PATIENCE).expect("the browser answers")
    }

    /// Shows the page at `url`, to its end.
    #[track_caller]
    pub(super) fn open(&mut self, url: &str) {
        let began = self.call("Page.navigate", json!({"url": url}));
        assert_eq!(began["errorText"], Value::Null, "{url}");
        self.arrive(url);
    }

    /// Clicks on what `selector` finds first, which leads to `url`.
    #[track_caller]
    pub(super) fn click(&mut self, selector: &str, url: &str) {
        let selector = json!(selector);
        // The click itself waits until the answer to it is out, so that the page that gives it is still there.
        self.eval(&format!("void setTimeout((found) => found.click(), 0, document.querySelector({selector}))"));
        self.arrive(url);
    }

    /// Waits until `url` is shown. A page that goes while it is asked answers with an error: it is asked again.
    fn arrive(&mut self, url: &str) {
        let there = format!("document.readyState === 'complete' && location.href === {}", json!(url));
        wait_for(url, || {
            let answer = self.attempt("Runtime.evaluate", json!({"expression": there, "returnByValue": true}));
            answer.is_ok_and(|answer| answer["result"]["value"] == true).then_some(())
        });
    }

    /// Fetches `url` as a file, and gives its bytes.
    #[track_caller]
    pub(super) fn download(&mut self, url: &str, name: &str) -> Vec<u8> {
        self.call("Page.navigate", json!({"url": url}));
        let done = |params: &Value| params["state"] == "completed";
        let known =
            self.events.iter().any(|event| event["method"] == "Browser.downloadProgress" && done(&event["params"]));
        if !known {
            self.happens("Browser.downloadProgress", done);
        }
        std::fs::read(self.place.path().join(name)).unwrap()
    }

    /// What `script` comes to in the page.
    #[track_caller]
    pub(super) fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", params);
        assert_eq!(result["exceptionDetails"], Value::Null, "{script}");
        result["result"]["value"].take()
    }

    /// The page as a picture, in base64.
    pub(super) fn picture(&mut self) -> String {
        self.call("Page.captureScreenshot", json!({"format": "png"}))["data"].as_str().unwrap().to_owned()
    }

    /// All that the pages complained of: scripts that failed, and what the policy forbade.
    pub(super) fn complaints(&self) -> Vec<&Value> {
        let methods = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
        self.events.iter().filter(|event| methods.iter().any(|method| event["method"] == *method)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
