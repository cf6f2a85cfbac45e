//! Pages as a mirror with a few modules has them.

use mirra::web::pages::model::{
    Card, Change, Changed, Index, Kind, Listing, ModuleStatus, NodeStatus, Point, Problem, Progress, Readme, Role, Row,
    Site, State, Status, Totals,
};
use mirra::web::pages::order::{Sort, View, page_of};

/// 2026-11-22 18:30:05 UTC.
pub(crate) const NOW: u64 = 1_795_372_205_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const KEY: &str = "k4m7zq2v5xw3t6r8ypahd7sjgc2nfb4el5u3oim6x7qwzr2vt4ya";

pub(crate) fn site() -> Site {
    Site { name: "mirror.example.org".into(), host: "mirror.example.org".into(), version: "0.1.0".into() }
}

pub(crate) fn card(name: &str) -> Card {
    Card {
        name: name.into(),
        title: "Packages and images of Debian, amd64 and arm64".into(),
        role: Role::Node { upstream: "ftp.example.net".into() },
        key: KEY.into(),
        state: Some(State {
            sequence: NOW - 3 * HOUR,
            created_ms: NOW - 3 * HOUR,
            snapshot: "9f2c4b7d1e8a305566b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f40516".into(),
            entries: 1_284_117,
            bytes: 2_471_090_331_648,
        }),
        progress: None,
        partial: false,
        stale: false,
    }
}

pub(crate) fn index() -> Index {
    let small = Card {
        title: "Photographs of the observatory".into(),
        role: Role::Root,
        state: Some(State {
            sequence: NOW - 40_000,
            created_ms: NOW - 40_000,
            entries: 812,
            bytes: 5_368_709_120,
            ..state()
        }),
        ..card("photos")
    };
    let stale = Card { title: String::new(), partial: true, stale: true, ..card("archive-2019") };
    let modules = vec![card("debian"), small, coming(), stale];
    Index { site: site(), modules }
}

fn state() -> State {
    card("x").state.unwrap()
}

/// A module before its first snapshot.
pub(crate) fn coming() -> Card {
    let progress = Progress {
        bytes: 91_268_055_040,
        bytes_total: 214_748_364_800,
        files: 21_044,
        files_total: 48_201,
        eta_s: Some(2_460),
    };
    Card { title: "Maps, vector tiles".into(), state: None, progress: Some(progress), ..card("maps") }
}

pub(crate) fn row(name: &[u8], size: u64, days: u64) -> Row {
    let mtime = i64::try_from((NOW - days * DAY - size % DAY) / 1_000).unwrap();
    Row { name: name.to_vec(), kind: Kind::File { size }, mtime }
}

pub(crate) fn directory(name: &[u8], entries: u64, bytes: u64) -> Row {
    Row { kind: Kind::Directory { entries, bytes }, ..row(name, bytes, 2) }
}

pub(crate) fn link(name: &[u8], target: &[u8], inside: bool) -> Row {
    Row { kind: Kind::Link { target: target.to_vec(), inside }, ..row(name, 0, 9) }
}

pub(crate) fn listing(rows: Vec<Row>) -> Listing {
    let of = |is: fn(&Kind) -> bool| rows.iter().filter(|row| is(&row.kind)).count() as u64;
    let totals = Totals {
        directories: of(|kind| matches!(kind, Kind::Directory { .. })),
        files: of(|kind| matches!(kind, Kind::File { .. })),
        links: of(|kind| matches!(kind, Kind::Link { .. })),
        bytes: rows.iter().map(|row| row.facts().bytes).sum(),
    };
    Listing { site: site(), module: card("debian"), rows, totals, pages: 1, sortable: true, ..Listing::default() }
}

/// The top of a module, with a README.
pub(crate) fn top() -> Listing {
    let mut rows = vec![
        directory(b"dists", 12_941, 31_203_114_921),
        directory(b"doc", 211, 8_400_291),
        directory(b"pool", 1_265_003, 2_439_002_815_332),
        directory("Übersetzungen".as_bytes(), 3, 77_120),
        directory(b"project", 18, 1_048_576),
        row(b"README.md", 1_203, 90),
        row(b"ls-lR.gz", 15_894_210, 0),
        row(b"debian-12.10.0-amd64-netinst.iso", 663_748_608, 60),
        row(b"debian-9.13.0-amd64-netinst.iso", 306_184_192, 1_900),
        row(b"extrafiles", 181_220, 0),
        row(b"a-very-long-file-name-that-does-not-fit-on-a-phone_1.2.3-4~bpo12+1_amd64.changes.signed.asc", 734, 33),
        link(b"stable", b"dists/bookworm", true),
        link(b"elsewhere", b"../../other/tree", false),
    ];
    let view = View::default();
    let rows = page_of(&mut rows, view, 1_000, Row::facts).to_vec();
    let text = "Debian mirror\n=============\n\nThis tree holds the packages and images of Debian for two architectures.\n\n\
                    \tdists/   what a release is made of\n\tpool/    the packages themselves\n\n\
                    Please report problems to mirror-admin@example.org. Updates come in four times a day, right after the \
                    archive has finished its own run, and reach this host within a second.\n";
    Listing { readme: Some(Readme { name: b"README.md".to_vec(), bytes: text.into() }), ..listing(rows) }
}

/// The second of many pages, far down, by size.
pub(crate) fn deep() -> Listing {
    let mut rows: Vec<Row> = (0..1_000u64)
        .map(|at| {
            row(format!("libexample{at}-dev_{at}.{}-1_amd64.deb", at % 9).as_bytes(), at * at * 977 + 512, at % 400)
        })
        .collect();
    let view = View { sort: Sort::Size, descending: true, page: 1 };
    let rows = page_of(&mut rows, view, 1_000, Row::facts).to_vec();
    let path = ["pool", "main", "libe"].map(|name| name.as_bytes().to_vec()).to_vec();
    Listing { path, view: view.at(2), pages: 14, ..listing(rows) }
}

pub(crate) fn status() -> Status {
    let sizes = (0..60)
        .map(|day| Point { at_ms: NOW - (60 - day) * DAY, bytes: 2_200_000_000_000 + day * day * 75_000_000 })
        .collect();
    let served = (0..60)
        .map(|day| Point { at_ms: NOW - (60 - day) * DAY, bytes: (day * 7_919 % 31 + 4) * 21_000_000_000 })
        .collect();
    let change = |at: u64, entries| {
        let created_ms = NOW - at * 6 * HOUR - 3 * HOUR;
        Change { sequence: created_ms, created_ms, entries, bytes: 2_471_090_331_648 - at * 812_331_008 }
    };
    let changed = |at: u64| Changed { added: at * 131 % 97 + 3, updated: at * 37 % 41 + 11, removed: at * 17 % 13 };
    let changes = (0..8).map(|at| change(at, (at < 7).then(|| changed(at)))).collect();
    let node = |name: &str, sequence, lag_ms| NodeStatus { name: name.into(), sequence, lag_ms };
    let nodes = vec![
        node("mirror.north.example", Some(NOW - 3 * HOUR), 0),
        node("mirror.south.example", Some(NOW - 9 * HOUR), 3 * HOUR),
        node("new.example", None, 20 * 60_000),
    ];
    let debian = ModuleStatus {
        module: card("debian"),
        confirmed_ms: Some(NOW - 31_000),
        changes,
        sizes,
        served,
        nodes: Some(nodes),
    };
    let photos =
        ModuleStatus { module: index().modules.swap_remove(1), nodes: Some(Vec::new()), ..ModuleStatus::default() };
    let maps = ModuleStatus { module: coming(), ..ModuleStatus::default() };
    Status { site: site(), started_ms: NOW - 41 * DAY, modules: vec![debian, photos, maps] }
}

pub(crate) fn missing() -> Problem {
    Problem {
        site: site(),
        code: 404,
        what: "Not found".into(),
        why: "The published snapshot of debian has no pool/main/x/y.deb.".into(),
        fix: "It may have been replaced by a newer version: look in the directory above.".into(),
        module: None,
    }
}

pub(crate) fn not_yet() -> Problem {
    Problem {
        site: site(),
        code: 503,
        what: "Not here yet".into(),
        why: "This host follows maps and has no whole snapshot of it. It serves whole states only.".into(),
        fix: String::new(),
        module: Some(coming()),
    }
}
