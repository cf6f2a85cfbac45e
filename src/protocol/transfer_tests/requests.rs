//! Requests that are refused, and those for trees.

use super::*;

#[test]
fn requests_outside_the_module_are_refused() {
    let sender = Sender::new(&Files0::new(), &one(vec![1; 10]));
    let refused = |request: Message, more: Vec<Message>| {
        let got = ask(&sender, request, more);
        assert_eq!(got.last().map(|m| m.tag), Some(tag::REFUSED));
    };
    let unknown = HeadId::of(b"no such head");
    let content = |module: &str, head| Content { module: module.into(), head, base: None };
    refused(Message::new(tag::CONTENT, &content("m", unknown)), vec![]);
    refused(Message::new(tag::CONTENT, &content("other", head_id(&sender.new))), vec![]);
    let files = |path: &str| Files(vec![FileItem::plain(TreePath::new(path.as_bytes()).unwrap(), way::ALL)]).message();
    refused(Message::new(tag::CONTENT, &content("m", head_id(&sender.new))), vec![files("no-such-file")]);
    refused(Message { tag: 77, body: vec![] }, vec![]);
    refused(Message { tag: tag::TREE, body: vec![0xc0] }, vec![]);
    for brief in [false, true] {
        let descend = Descend { module: "m".into(), head: head_id(&sender.new), brief };
        refused(Message::new(tag::DESCEND, &descend), vec![Message { tag: tag::WANT, body: vec![0xff; 9] }]);
    }
}

#[test]
fn an_unknown_base_is_said_to_be_unknown() {
    let mut sender = Sender::new(&one(vec![2; 10]), &one(vec![1; 10]));
    sender.knows_old = false;
    let request = Tree { module: "m".into(), head: head_id(&sender.new), base: Some(head_id(&sender.old).into()) };
    let got = ask(&sender, Message::new(tag::TREE, &request), vec![]);
    assert_eq!(got.iter().map(|m| m.tag).collect::<Vec<_>>(), [tag::BASE_UNKNOWN]);
}

#[test]
fn a_moved_directory_costs_one_record() {
    let files =
        |prefix: &str| (0..2_000).map(|i| (format!("{prefix}/sub/file-{i}"), vec![i as u8; 20])).collect::<Files0>();
    let sender = Sender::new(&files("old"), &files("new"));
    let mut receiver = receiver(&files("old"));
    let request = Tree { module: "m".into(), head: head_id(&sender.new), base: Some(head_id(&sender.old).into()) };
    let got = ask(&sender, Message::new(tag::TREE, &request), vec![]);
    let size: usize = got.iter().map(|m| m.body.len()).sum();
    assert!(size < 200, "{size} bytes");
    let mut reader = ChangeReader::new(Some(sender.old), sender.new.entries);
    got.iter().for_each(|m| reader.apply(&m.body, &mut receiver.pages).unwrap());
    assert_eq!(reader.finish(&mut receiver.pages).unwrap(), sender.new);
}
