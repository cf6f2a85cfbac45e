//! What programs watch a daemon by: metrics, health, readiness and status, at the control socket and on loopback.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{MODULE, World, command, free_port, mirra, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// A home that runs and can be watched at a port of loopback; ended when dropped.
struct Watched {
    daemon: Child,
    at: String,
    web: String,
}

impl Watched {
    fn start(home: &Path, listen: &str) -> Self {
        let [at, web] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let args = ["run", "--listen", listen, "--web-listen", &web, "--metrics-listen", &at].map(OsStr::new);
        let mut daemon = command(home, &args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(daemon.stderr.take().unwrap());
        // It names all its places once all of them answer.
        let mut line = String::new();
        while !line.contains("web pages are at") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended at once");
        }
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { daemon, at, web }
    }

    /// Status, media type and body of `path`.
    fn get(&self, path: &str) -> (u16, String, String) {
        let stream = TcpStream::connect(&self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(stream, "GET", path)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> (u16, String, String) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: LocalHost:9607\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{all:?}"));
    let kind = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned));
    (head[9..12].parse().unwrap(), kind.unwrap_or_default(), body.to_owned())
}

/// The value of the one series of that name with these labels.
fn value(text: &str, series: &str) -> f64 {
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).collect();
    assert_eq!(found.len(), 1, "{series} in {text}");
    found[0].parse().unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Names of all metrics, as they are written in queries.
fn names(text: &str) -> BTreeSet<String> {
    let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

#[test]
fn a_root_and_its_node_can_be_watched() {
    let mut world = World::new(|tree| fs::write(tree.join("a"), "twelve bytes").unwrap());
    world.sync("node").expect(0);
    world.kill();
    let root = Watched::start(&world.root(), &world.address());
    let (status, kind, text) = root.get("/metrics");
    assert_eq!((status, kind.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(text.ends_with("# EOF\n"));
    let of_root = |name: &str, text: &str| value(text, &format!("mirra_{name}{{module=\"{MODULE}\",role=\"root\"}}"));
    assert_eq!(of_root("module_bytes", &text), 12.0);
    assert_eq!(of_root("module_entries", &text), 1.0);
    assert!(of_root("module_seq", &text) > 0.0 && of_root("module_head_age_seconds", &text) < 600.0);
    assert_eq!(of_root("http_sent_bytes_total", &text), 0.0);
    // A visit shows.
    let (status, _, body) = ask(TcpStream::connect(&root.web).unwrap(), "GET", &format!("/{MODULE}/a"));
    assert_eq!((status, body.as_str()), (200, "twelve bytes"));
    let (status, ..) = ask(TcpStream::connect(&root.web).unwrap(), "GET", "/nothing");
    assert_eq!(status, 404);
    wait_for("the visits", || {
        let text = root.get("/metrics").2;
        let count = |result| value(&text, &format!("mirra_http_requests_total{{result=\"{result}\"}}"));
        let all = (count("found"), count("refused"), value(&text, "mirra_http_connections"));
        (all == (1.0, 1.0, 0.0) && of_root("http_sent_bytes_total", &text) == 12.0).then_some(())
    });

    assert_eq!(root.get("/healthz"), (200, "text/plain; charset=utf-8".into(), "ok\n".into()));
    let (status, _, ready) = root.get("/readyz");
    assert_eq!((status, json(&ready)["ready"].as_bool()), (200, Some(true)));
    let told = json(&root.get("/status.json").2);
    assert_eq!(
        (told["schema"].as_str(), told["modules"][0]["module"].as_str()),
        (Some("mirra.daemon/1"), Some(MODULE))
    );

    // The same at the socket, and nothing can be done at the port.
    let socket = world.root().join(".mirra/control.sock");
    for path in ["/healthz", "/readyz", "/status.json", "/metrics"] {
        let (status, kind, _) = ask(UnixStream::connect(&socket).unwrap(), "GET", path);
        let (same, as_kind, _) = root.get(path);
        assert_eq!((status, kind), (same, as_kind), "{path}");
    }
    for (method, path, status) in
        [("POST", "/v1/publish", 405), ("GET", "/v1/status", 404), ("DELETE", "/metrics", 405)]
    {
        assert_eq!(ask(TcpStream::connect(&root.at).unwrap(), method, path).0, status, "{method} {path}");
    }

    // Nor by a name that leads here from elsewhere.
    for (host, status) in [("127.0.0.1:9607", 200), ("metrics.example", 403), ("192.0.2.1", 403), ("@", 403)] {
        let mut stream = TcpStream::connect(&root.at).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(all.get(9..12), Some(&*status.to_string()), "{host}: {all}");
    }

    let listen = format!("127.0.0.1:{}", free_port());
    let node = Watched::start(&world.node("node"), &listen);
    mirra(&world.node("node"), &["sync", &world.address(), MODULE]).expect(0);
    wait_for("the node", || {
        let text = node.get("/metrics").2;
        text.contains(&format!("mirra_module_lag_seconds{{module=\"{MODULE}\",role=\"node\"}} 0")).then_some(())
    });
    assert_eq!(node.get("/readyz").0, 200);

    // What is brought later is counted by where it came from.
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    fs::write(world.tree().join("b"), &bytes).unwrap();
    mirra(&world.root(), &["publish"]).expect(0);
    let of_node = |name: &str, more: &str, text: &str| {
        value(text, &format!("mirra_module_{name}{{module=\"{MODULE}\",role=\"node\"{more}}}"))
    };
    let text = wait_for("the new file", || {
        let text = node.get("/metrics").2;
        (of_node("content_bytes_total", ",from=\"wire\"", &text) >= 800_000.0).then_some(text)
    });
    assert!(of_node("syncs_total", "", &text) >= 1.0);
    assert!(of_node("sync_duration_seconds", "", &text) < PATIENCE.as_secs_f64());
    assert!(of_node("wire_bytes_total", ",dir=\"received\"", &text) > 0.0);
    assert!(of_node("wire_bytes_total", ",dir=\"sent\"", &text) > 0.0);
    assert_eq!((of_node("verify_errors_total", "", &text), of_node("deletes_blocked_total", "", &text)), (0.0, 0.0));
    assert_eq!(value(&text, "mirra_queue_length"), 0.0);
}

#[test]
fn a_module_without_a_snapshot_is_not_ready_and_says_so() {
    let world = World::new(|tree| fs::write(tree.join("a"), "a").unwrap());
    world.sync("node").expect(0);
    mirra(&world.node("node"), &["sync", &world.address(), MODULE]).expect(0);
    mirra(&world.node("node"), &["pause"]).expect(0);
    let node = Watched::start(&world.node("node"), &format!("127.0.0.1:{}", free_port()));
    let (status, _, text) = node.get("/readyz");
    assert_eq!(status, 503);
    assert_eq!(json(&text)["missing"][0]["module"], MODULE);
    assert_eq!(
        value(&node.get("/metrics").2, &format!("mirra_module_paused{{module=\"{MODULE}\",role=\"node\"}}")),
        1.0
    );
}

#[test]
fn it_answers_while_the_web_is_full() {
    let mut world = World::new(|tree| fs::write(tree.join("a"), "a").unwrap());
    world.kill();
    let root = Watched::start(&world.root(), &world.address());
    let held: Vec<TcpStream> = (0..200).map_while(|_| TcpStream::connect(&root.web).ok()).collect();
    wait_for("the refusals", || {
        let text = root.get("/metrics").2;
        (value(&text, "mirra_http_connections_refused_total") > 0.0).then_some(())
    });
    assert_eq!(root.get("/healthz").0, 200);
    drop(held);
    // Those who hold its own connections are let go as well.
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&root.at).unwrap()).collect();
    wait_for("a place", || {
        let stream = TcpStream::connect(&root.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = stream;
        let _ = write!(stream, "GET /healthz HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n");
        let mut all = String::new();
        (stream.read_to_string(&mut all).is_ok() && all.ends_with("ok\n")).then_some(())
    });
    drop(idle);
}

#[test]
fn it_is_for_this_machine_alone() {
    let world = World::empty();
    for address in ["0.0.0.0:9607", "[::]:9607", "192.0.2.1"] {
        let failed = mirra(&world.root(), &["run", "--listen", &world.address(), "--metrics-listen", address]);
        failed.expect_failure(3);
    }
    let config = world.root().join(".mirra/Mirra.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[server]", "[server]\nmetrics_listen = \"0.0.0.0\"")).unwrap();
    mirra(&world.root(), &["run", "--listen", &world.address()]).expect_failure(3);
}

#[test]
fn the_table_the_dashboard_and_the_alerts_name_what_there_is() {
    let mut world = World::new(|tree| fs::write(tree.join("a"), "a").unwrap());
    world.kill();
    let root = Watched::start(&world.root(), &world.address());
    let text = root.get("/metrics").2;
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(project.join(path)).unwrap();
    let table = read("docs/metrics.md");
    let described: BTreeSet<String> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect();
    let helped: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    assert_eq!(described, helped);
    assert!(names(&text).is_subset(&helped), "{:?}", names(&text));
    for file in ["contrib/grafana/mirra.json", "contrib/prometheus/alerts.yml"] {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let used: BTreeSet<String> = words.filter(|word| word.starts_with("mirra_")).map(str::to_owned).collect();
        assert!(!used.is_empty() && used.is_subset(&helped), "{file}: {:?}", used.difference(&helped));
    }
    json(&read("contrib/grafana/mirra.json"));
}
