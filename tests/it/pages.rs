//! The public pages as a browser reads them: no name becomes markup, nothing is wrong with it, no page is too long.

use std::fs;
use std::path::Path;

use mirra::web::pages::model::{Kind, Listing, Row};
use mirra::web::pages::order::{ROWS_MAX, rows_per_page};
use mirra::web::pages::{assets, index, listing, problem, status};
use mirra::words;
use scraper::{ElementRef, Html, Selector};

mod sample;

use sample::NOW;

/// The figure for a page of a thousand rows.
const PAGE_BYTES_MAX: usize = 300_000;

/// Text that would like to be more than text.
const HOSTILE: &[&[u8]] = &[
    b"\"><script>alert(1)</script>",
    b"' onmouseover='alert(1)",
    b"<img src=x onerror=alert(1)>",
    b"</th></table></main><h1>owned</h1>",
    b"javascript:alert(1)",
    b"data:text/html,<script>alert(1)</script>",
    b"&lt;b&gt; &amp;quot; &#60;i>",
    b"{{ 7 * 7 }}{% raw %}",
    b"-->]]><!--<![CDATA[",
    b"new\nline\r\tand\0not",
    b"\x1b[2J\x1b]0;title\x07",
    b"\xc2\x9b31m\xc2\x85",
    "gnp.\u{202e}exe\u{2066}\u{200f}\u{61c}".as_bytes(),
    "\u{feff}\u{200b}\u{2028}".as_bytes(),
    b"\xff\xfe\xc3(",
    b"%2e%2e%2f..\\..?a#b;c",
    b"//example.com/",
    "漢字 e\u{301} Ä".as_bytes(),
    b" ",
    &[b'<'; 255],
    &[0xff; 255],
];

/// All sample pages by the name of a file.
fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("index", index(&sample::index(), NOW)),
        ("empty", index(&mirra::web::pages::model::Index { site: sample::site(), modules: Vec::new() }, NOW)),
        ("listing", listing(&sample::top(), NOW)),
        ("bare", listing(&sample::listing(Vec::new()), NOW)),
        ("long", listing(&sample::deep(), NOW)),
        ("hostile", listing(&of_names(HOSTILE), NOW)),
        ("status", status(&sample::status(), NOW)),
        ("missing", problem(&sample::missing(), NOW)),
        ("notyet", problem(&sample::not_yet(), NOW)),
    ]
}

/// They are left where a person can look at them: in `pages/` of cargo's directory for the files of tests.
#[test]
fn pages_are_left_to_look_at() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&dir).unwrap();
    for (name, page) in pages() {
        // The addresses of a server, as those of files beside the page.
        let page =
            assets::ALL.iter().fold(page, |page, asset| page.replace(&asset.link(), &asset.path.replace("/-/", "")));
        fs::write(dir.join(name).with_extension("html"), page).unwrap();
    }
    for asset in assets::ALL {
        fs::write(dir.join(asset.path.trim_start_matches("/-/")), asset.body).unwrap();
    }
}

#[test]
fn pages_are_right_and_need_nothing_from_elsewhere() {
    for (name, page) in pages() {
        let html = Html::parse_document(&page);
        assert!(html.errors.is_empty(), "{name}: {:?}", html.errors);
        assert!(page.chars().all(|c| c == '\n' || c == '\t' || !words::is_hidden(c)), "{name}");
        for element in elements(&html) {
            assert!(
                !element.value().attrs().any(|(key, _)| key == "style" || key.starts_with("on")),
                "{name}: {element:?}"
            );
            for (key, value) in element.value().attrs().filter(|(key, _)| ["href", "src", "action"].contains(key)) {
                let inside = ["./", "?", "#"].iter().any(|start| value.starts_with(start));
                let rooted = value.starts_with('/') && !value.starts_with("//");
                assert!(inside || rooted, "{name}: {key}={value}");
            }
        }
        let count = |selector| html.select(&Selector::parse(selector).unwrap()).count();
        let once =
            ["html[lang]", "title", "h1", "main", "header", "footer", "a.skip[href='#main']", "script[src]", "script"];
        for selector in once {
            assert_eq!(count(selector), 1, "{name}: {selector}");
        }
        assert_eq!(count("svg:not([aria-label]), table:not(:has(caption)), nav:not([aria-label])"), 0, "{name}");
    }
}

#[test]
fn hostile_names_are_text_and_lead_to_themselves() {
    let page = listing(&of_names(HOSTILE), NOW);
    let html = Html::parse_document(&page);
    let plain: Vec<Vec<u8>> = (0..HOSTILE.len()).map(|at| format!("file{at}").into_bytes()).collect();
    let plain: Vec<&[u8]> = plain.iter().map(Vec::as_slice).collect();
    assert_eq!(shape(&html), shape(&Html::parse_document(&listing(&of_names(&plain), NOW))));

    let names = Selector::parse("table.files tbody th > :first-child").unwrap();
    let shown: Vec<(String, &str)> = html
        .select(&names)
        .map(|element| (element.text().collect(), element.attr("href").unwrap_or_default()))
        .collect();
    assert_eq!(shown.len(), 3 * HOSTILE.len());
    for (at, name) in HOSTILE.iter().enumerate() {
        let [file, dir, link] = [at, at + HOSTILE.len(), at + 2 * HOSTILE.len()].map(|at| &shown[at]);
        assert_eq!((&file.0, &dir.0), (&words::escaped(name), &format!("{}/", words::escaped(name))));
        assert_eq!(decoded(file.1), [b"./", *name].concat());
        assert_eq!(decoded(dir.1), [b"./", *name, b"/"].concat());
        assert_eq!((&link.0, decoded(link.1)), (&file.0, decoded(file.1)));
    }
}

#[test]
fn hostile_words_of_others_are_text() {
    let twist = |text: &mut String, hostile: &[u8]| *text = String::from_utf8_lossy(hostile).into_owned();
    let plain = (sample::index(), sample::status(), sample::not_yet());
    let of = |pages: &(_, _, _)| {
        let texts = [index(&pages.0, NOW), status(&pages.1, NOW), problem(&pages.2, NOW)];
        texts.map(|text| shape(&Html::parse_document(&text)))
    };
    for hostile in HOSTILE {
        let (mut index, mut status, mut problem) = plain.clone();
        for module in &mut index.modules {
            let state = module.state.iter_mut().map(|state| &mut state.snapshot);
            let title = (!module.title.is_empty()).then_some(&mut module.title);
            let upstream = match &mut module.role {
                mirra::web::pages::model::Role::Node { upstream } => Some(upstream),
                mirra::web::pages::model::Role::Root => None,
            };
            state.chain(title).chain(upstream).for_each(|text| twist(text, hostile));
        }
        for text in [&mut index.site.name, &mut index.site.host, &mut problem.what, &mut problem.why] {
            twist(text, hostile);
        }
        for node in status.modules.iter_mut().flat_map(|module| &mut module.nodes).flatten() {
            twist(&mut node.name, hostile);
        }
        assert_eq!(of(&(index, status, problem)), of(&plain), "{hostile:?}");
    }
}

#[test]
fn a_hostile_readme_is_text() {
    let readme = |bytes: &[u8]| {
        let mut page = sample::top();
        page.readme.as_mut().unwrap().bytes = bytes.to_vec();
        Html::parse_document(&listing(&page, NOW))
    };
    for text in HOSTILE {
        assert_eq!(shape(&readme(text)), shape(&readme(b"x")), "{text:?}");
    }
    let pre = Selector::parse(".readme pre").unwrap();
    let html = readme(b"\n\n</pre>\r\n\ttab");
    assert_eq!(html.select(&pre).next().unwrap().text().collect::<String>(), "\n\n</pre>\n\ttab");
}

#[test]
fn long_pages_stay_short() {
    let mut page = sample::deep();
    page.readme =
        sample::top().readme.map(|readme| mirra::web::pages::model::Readme { bytes: vec![b'<'; 100_000], ..readme });
    assert_eq!(page.rows.len(), ROWS_MAX);
    let text = listing(&page, NOW);
    assert!(text.len() <= PAGE_BYTES_MAX, "{}", text.len());
    page.path = vec![b"d".to_vec(); 1_024];
    let text = listing(&page, NOW);
    assert!(text.len() <= PAGE_BYTES_MAX && text.contains("<li>…</li>"), "{}", text.len());
    page.path.clear();
    for name in HOSTILE {
        let kinds =
            [Kind::File { size: 1_234_567_890 }, Kind::Directory { entries: 1_234_567, bytes: 12_345_678_901_234 }];
        let link = Kind::Link { target: vec![b'<'; 4_095], inside: true };
        for kind in kinds.into_iter().chain([link]) {
            let target: &[u8] = if let Kind::Link { target, .. } = &kind { target } else { b"" };
            let rows = rows_per_page([(*name, target)]);
            page.rows = vec![Row { name: name.to_vec(), kind, mtime: 1_700_000_000 }; rows];
            let text = listing(&page, NOW);
            assert!(text.len() <= PAGE_BYTES_MAX, "{} of {rows} rows {:?}", text.len(), page.rows[0]);
        }
    }
}

/// A listing with a file, a directory and a link of each name.
fn of_names(names: &[&[u8]]) -> Listing {
    let files = names.iter().map(|name| sample::row(name, 7, 1));
    let directories = names.iter().map(|name| sample::directory(name, 2, 7));
    let links = names.iter().map(|name| sample::link(name, name, true));
    let path = names.iter().map(|name| name.to_vec()).collect();
    Listing { path, ..sample::listing(files.chain(directories).chain(links).collect()) }
}

/// All elements in order, each with the names of its attributes.
fn shape(html: &Html) -> Vec<String> {
    let name = |element: ElementRef<'_>| {
        let keys: Vec<&str> = element.value().attrs().map(|(key, _)| key).collect();
        format!("{} {keys:?}", element.value().name())
    };
    elements(html).map(name).collect()
}

fn elements(html: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    html.tree.nodes().filter_map(ElementRef::wrap)
}

fn decoded(href: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), href.as_bytes());
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'%', [high, low, behind @ ..]) = (first, behind) {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).unwrap(), 16).unwrap());
            rest = behind;
        } else {
            bytes.push(*first);
        }
    }
    bytes
}
