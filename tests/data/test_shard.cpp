// Token shards: what is written is read back, and what was damaged is refused by name.

#include <hdf5.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/shard/dataset.h"
#include "data/shard/dataset_writer.h"
#include "tests/data/shard_fixture.h"

// A damaged header may ask HDF5 for any amount of memory; malloc refuses, and so must a sanitizer's.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}
// HDF5 itself loses memory over such headers.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}

using namespace dujiang;
using namespace dujiang::data;
namespace fs = std::filesystem;

namespace {

Documents read_all(const Dataset& dataset) {
  Documents documents;
  for (std::int64_t d = 0; d < dataset.documents(); ++d) {
    const auto place = dataset.locate(d);
    auto& document = documents.emplace_back(static_cast<std::size_t>(place.tokens));
    place.shard->read(place.start, place.tokens, document.data());
  }
  return documents;
}

void flip_byte(const fs::path& path, std::int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(at);
  file.put(byte);
}

std::int64_t token_offset(const fs::path& path) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t column = H5Dopen2(file, "/tokens", H5P_DEFAULT);
  const auto offset = static_cast<std::int64_t>(H5Dget_offset(column));
  H5Dclose(column);
  H5Fclose(file);
  return offset;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_written_is_read_back_in_both_widths_and_by_both_ways) {
  for (const std::int64_t vocab_size :
       {std::int64_t{300}, std::int64_t{65536}, std::int64_t{65537}, std::int64_t{150000}}) {
    const TempFolder folder;
    Documents documents = random_documents(200, 300, vocab_size, 7);
    documents[3] = {static_cast<std::int32_t>(vocab_size - 1), 0};
    documents[4].clear();
    const Manifest manifest = write_dataset(folder.path(), documents, vocab_size, 5000);
    BOOST_TEST(manifest.shards.size() > 3u);
    for (const ReadOptions options :
         {ReadOptions{}, ReadOptions{true, true}, ReadOptions{false, false}, ReadOptions{true, false}}) {
      const Dataset dataset(folder.path(), "train", options);
      BOOST_TEST(dataset.shards()[0]->mapped() == options.map);
      BOOST_CHECK(read_all(dataset) == documents);
      BOOST_TEST(dataset.tokens() == manifest.tokens("train"));
      BOOST_TEST(dataset.documents() == 200);
      BOOST_TEST(dataset.info().vocab_size == vocab_size);
      BOOST_CHECK(dataset.info().sources == some_info(vocab_size).sources);
      std::uint64_t n = 0;
      for (const auto& shard : dataset.shards()) {
        BOOST_CHECK(shard->info().sources == some_info(vocab_size).sources);
        BOOST_TEST(shard->info().tokenizer_sha256 == "5ha256");
        BOOST_TEST(shard->info().pipeline == R"({"min_chars":20})");
        for (std::int64_t d = 0; d < shard->documents(); ++d, ++n) {
          BOOST_REQUIRE(shard->doc_sources()[d] == n % 2);
          BOOST_REQUIRE(shard->doc_flags()[d] == n);
          BOOST_REQUIRE(shard->doc_hashes()[2 * d] == n);
          BOOST_REQUIRE(shard->doc_hashes()[2 * d + 1] == ~n);
        }
      }
    }
    const VerifyReport report = verify(folder.path());
    BOOST_TEST(report.documents == 200);
    BOOST_TEST(report.tokens == manifest.tokens("train"));
    BOOST_TEST(report.files == static_cast<std::int64_t>(manifest.shards.size()));
  }
}

BOOST_AUTO_TEST_CASE(tokens_are_read_where_asked_and_nowhere_else) {
  const TempFolder folder;
  const Documents documents = random_documents(50, 40, 100, 3);
  write_dataset(folder.path(), documents, 100);
  std::vector<std::int32_t> all;
  for (const auto& document : documents) all.insert(all.end(), document.begin(), document.end());
  const Dataset dataset(folder.path(), "train");
  const ShardReader& shard = *dataset.shards()[0];
  const std::int64_t end = shard.tokens();
  for (const auto& [first, count] : {std::pair{std::int64_t{0}, end},
                                     {std::int64_t{7}, std::int64_t{100}},
                                     {end - 1, std::int64_t{1}},
                                     {end, std::int64_t{0}}}) {
    std::vector<std::int32_t> part(static_cast<std::size_t>(count));
    shard.read(first, count, part.data());
    BOOST_TEST(std::equal(part.begin(), part.end(), all.begin() + first));
  }
  std::vector<std::int32_t> untouched(200);
  for (const auto& [first, count] : {std::pair{end, std::int64_t{1}},
                                     {end - 10, std::int64_t{11}},
                                     {std::int64_t{-1}, std::int64_t{2}},
                                     {std::int64_t{0}, std::int64_t{-1}}})
    BOOST_CHECK_THROW(shard.read(first, count, untouched.data()), Error);
  BOOST_CHECK_THROW(dataset.locate(50), Error);
  BOOST_CHECK_THROW(dataset.locate(-1), Error);
}

BOOST_AUTO_TEST_CASE(the_same_documents_give_the_same_bytes_at_any_time) {
  const TempFolder first, second;
  const Documents documents = random_documents(50, 40, 100, 3);
  const auto a = write_dataset(first.path(), documents, 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 keeps times in seconds
  const auto b = write_dataset(second.path(), documents, 100);
  BOOST_TEST(a.shards[0].xxh3 == b.shards[0].xxh3);
}

BOOST_AUTO_TEST_CASE(splits_are_shards_of_their_own) {
  const TempFolder folder;
  DatasetWriter writer(folder.path(), some_info(10));
  const std::vector<std::int32_t> a{1, 2, 0}, b{3, 0};
  writer.add("train", {a});
  writer.add("valid", {b, 1});
  writer.add("train", {b});
  const Manifest manifest = writer.finish();
  BOOST_CHECK((manifest.splits() == std::vector<std::string>{"train", "valid"}));
  BOOST_CHECK((read_all(Dataset(folder.path(), "train")) == Documents{a, b}));
  BOOST_CHECK(read_all(Dataset(folder.path(), "valid")) == Documents{b});
  const auto message = user_error_of([&] { Dataset(folder.path(), "test"); });
  BOOST_TEST((contains(message, "'test'") && contains(message, "train, valid")), message);
}

BOOST_AUTO_TEST_CASE(bad_documents_and_settings_are_refused) {
  const TempFolder folder;
  const std::vector<std::int32_t> good{1}, high{1, 10}, negative{-1}, none;
  {
    DatasetWriter writer(folder.path(), some_info(10));
    BOOST_TEST(contains(user_error_of([&] { writer.add("train", {high}); }), "document 0 has token 10 at 1"));
    BOOST_TEST(contains(user_error_of([&] { writer.add("train", {negative}); }), "has token -1"));
    BOOST_TEST(contains(user_error_of([&] { writer.add("train", {good, 2}); }), "source 2"));
    BOOST_TEST(contains(user_error_of([&] { writer.add("../up", {good}); }), "split '../up'"));
  }
  BOOST_TEST(contains(user_error_of([&] { DatasetWriter(folder.path(), some_info(10)).finish(); }), "no documents"));
  {
    DatasetWriter writer(folder.path(), some_info(10));
    writer.add("train", {none});
    BOOST_TEST(contains(user_error_of([&] { writer.finish(); }), "1 documents hold no tokens"));
  }
  auto with = [&](std::int64_t vocab_size, const char* pipeline) {
    DatasetInfo info = some_info(vocab_size);
    info.pipeline = pipeline;
    return user_error_of([&] { ShardWriter(folder.path() / "x.h5", "train", info); });
  };
  BOOST_TEST(contains(with(0, "{}"), "vocabulary size 0"));
  BOOST_TEST(contains(with(10, "[1"), "not a JSON object"));
  BOOST_TEST(names_in(folder.path()).empty());
}

BOOST_AUTO_TEST_CASE(a_dataset_is_never_changed_and_what_a_cut_short_call_left_is_removed) {
  const TempFolder folder;
  std::ofstream(folder.path() / "train-00000.h5") << "half";
  std::ofstream(folder.path() / "train-00007.h5.tmp") << "half";
  std::ofstream(folder.path() / "notes.txt") << "mine";
  BOOST_TEST(contains(user_error_of([&] { Dataset(folder.path(), "train"); }), "manifest.json"));
  write_dataset(folder.path(), {{1, 0}}, 10);
  BOOST_TEST(names_in(folder.path()).size() == 3u);  // notes, shard, manifest
  BOOST_TEST(contains(user_error_of([&] { write_dataset(folder.path(), {{1, 0}}, 10); }), "holds a dataset already"));
  verify(folder.path());
}

BOOST_AUTO_TEST_CASE(every_truncation_is_refused_by_name) {
  const TempFolder folder;
  write_dataset(folder.path(), random_documents(300, 3000, 5000, 1), 5000);
  const auto path = folder.path() / "train-00000.h5";
  const auto size = static_cast<std::int64_t>(fs::file_size(path));
  for (const std::int64_t kept :
       {size - 1, size - 4096, size / 2, token_offset(path) + 1, std::int64_t{600}, std::int64_t{8}, std::int64_t{0}}) {
    fs::resize_file(path, static_cast<std::uintmax_t>(kept));
    const auto by_reader = user_error_of([&] { ShardReader reader(path); });
    BOOST_TEST(contains(by_reader, "train-00000.h5"), by_reader);
    const auto by_dataset = user_error_of([&] { Dataset(folder.path(), "train"); });
    BOOST_TEST((contains(by_dataset, "train-00000.h5") && contains(by_dataset, "truncated")), by_dataset);
    BOOST_TEST(contains(user_error_of([&] { verify(folder.path()); }), "train-00000.h5"));
  }
  fs::remove(path);
  BOOST_TEST(contains(user_error_of([&] { Dataset(folder.path(), "train"); }), "train-00000.h5"));
}

BOOST_AUTO_TEST_CASE(an_altered_token_byte_is_named_by_file_and_block) {
  const TempFolder folder;
  write_dataset(folder.path(), random_documents(1500, 2000, 200, 5), 200, 900000);
  const auto path = folder.path() / "train-00001.h5";
  const auto start = token_offset(path);
  const auto blocks = ShardReader(path).blocks();
  BOOST_TEST(blocks == 2);
  const std::int64_t last = ShardReader(path).tokens() * 2 - 1;
  for (const std::int64_t at : {std::int64_t{0}, block_bytes - 1, block_bytes, last}) {
    flip_byte(path, start + at);
    const auto expected = fmt::format("train-00001.h5: /tokens: block {} ", at / block_bytes);
    const auto message = user_error_of([&] { verify(folder.path()); });
    BOOST_TEST(contains(message, expected), message);
    for (const bool map : {true, false}) {
      const Dataset dataset(folder.path(), "train", {true, map});
      const auto first_use = user_error_of([&] { read_all(dataset); });
      BOOST_TEST(contains(first_use, expected), first_use);
    }
    flip_byte(path, start + at);
    verify(folder.path());
  }
}

BOOST_AUTO_TEST_CASE(any_altered_byte_of_a_shard_is_found_and_none_crashes) {
  const TempFolder folder;
  write_dataset(folder.path(), random_documents(20, 40, 200, 5), 200);
  const auto path = folder.path() / "train-00000.h5";
  const auto size = static_cast<std::int64_t>(fs::file_size(path));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::int64_t step = 101;  // where HDF5 asks for much memory, sanitizers take long to clear it
#else
  constexpr std::int64_t step = 13;
#endif
  for (std::int64_t at = 0; at < size; at += step) {  // a prime, so that every place within a word comes up
    flip_byte(path, at);
    const auto message = user_error_of([&] { verify(folder.path()); });
    BOOST_REQUIRE_MESSAGE(contains(message, "train-00000.h5"), "byte " << at << ": " << message);
    try {  // reading without verify() may succeed, but must not run outside the file
      read_all(Dataset(folder.path(), "train"));
    } catch (const Error&) {
    }
    flip_byte(path, at);
  }
  verify(folder.path());
}

BOOST_AUTO_TEST_CASE(a_damaged_manifest_is_refused_by_name) {
  const TempFolder folder;
  write_dataset(folder.path(), random_documents(20, 40, 200, 5), 200);
  const auto path = folder.path() / "manifest.json";
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto with = [&](const std::string& from, const std::string& to) {
    std::string altered = text;
    altered.replace(altered.find(from), from.size(), to);
    std::ofstream(path) << altered;
    return user_error_of([&] { verify(folder.path()); });
  };
  BOOST_TEST(contains(with("dujiang-dataset", "other"), "manifest.json: format is \"other\""));
  BOOST_TEST(contains(with("\"version\": 2", "\"version\": 1"), "manifest.json: version is 1"));
  BOOST_TEST(contains(with("vocab_size", "vocabsize"), "manifest.json"));
  BOOST_TEST(contains(with("train-00000", "../elsewhere"), "manifest.json"));
  BOOST_TEST(contains(with("\"documents\": 20", "\"documents\": 21"), "manifest.json: the totals of split 'train'"));
  BOOST_TEST(contains(with("5ha256", "6ha256"), "tokenizer_sha256 is '5ha256'"));
  BOOST_TEST(contains(with("public domain", "public demand"), "source '诗'"));
  std::ofstream(path) << text.substr(0, text.size() / 2);
  BOOST_TEST(contains(user_error_of([&] { Dataset(folder.path(), "train"); }), "manifest.json"));
}

BOOST_AUTO_TEST_CASE(columns_in_chunks_are_read_through_hdf5) {
  const TempFolder folder;
  const Documents documents = random_documents(30, 100, 500, 9);
  write_dataset(folder.path(), documents, 500);
  const auto path = folder.path() / "train-00000.h5";
  std::vector<std::int32_t> expected;
  for (const auto& document : documents) expected.insert(expected.end(), document.begin(), document.end());
  {  // another program's layout of the same column
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    H5Ldelete(file, "/tokens", H5P_DEFAULT);
    const hsize_t size = expected.size(), chunk = 64;
    const hid_t space = H5Screate_simple(1, &size, nullptr), layout = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(layout, 1, &chunk);
    const hid_t column = H5Dcreate2(file, "/tokens", H5T_STD_U16LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    H5Dwrite(column, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, expected.data());
    H5Dclose(column);
    H5Pclose(layout);
    H5Sclose(space);
    H5Fclose(file);
  }
  const ShardReader shard(path, {true, true});
  BOOST_TEST(!shard.mapped());
  std::vector<std::int32_t> found(expected.size() - 5);
  shard.read(5, static_cast<std::int64_t>(found.size()), found.data());
  BOOST_TEST(std::equal(found.begin(), found.end(), expected.begin() + 5));
  shard.verify();
}

BOOST_AUTO_TEST_CASE(a_write_cut_short_leaves_no_file_and_names_it) {
  const TempFolder folder;
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{20000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::string message = "<no error>";
  try {
    write_dataset(folder.path(), random_documents(100, 500, 200, 5), 200);
  } catch (const Error& e) {
    message = e.what();
    if (e.exit_status() != 1) message += " with the status of a user's fault";
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  BOOST_TEST((contains(message, "train-00000.h5") && contains(message, "File too large")), message);
  BOOST_TEST(names_in(folder.path()).empty());
}

BOOST_AUTO_TEST_CASE(a_full_disk_leaves_no_file_and_names_it) {
  const TempFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
    std::puts("a_full_disk_leaves_no_file_and_names_it: skipped, mounting a small tmpfs needs privilege");
    return;
  }
  std::string message = "<no error>";
  try {
    write_dataset(folder.path(), random_documents(500, 2000, 200, 5), 200, 20000);
  } catch (const Error& e) {
    message = e.what();
  }
  const auto left = names_in(folder.path());
  ::umount(folder.path().c_str());
  BOOST_TEST((contains(message, "train-0") && contains(message, "No space left on device")), message);
  BOOST_TEST(left.size() > 0u);  // whole shards, but no manifest
  for (const auto& name : left) BOOST_TEST((name.ends_with(".h5") && !contains(message, name)), name);
}

BOOST_AUTO_TEST_CASE(what_is_known_of_a_document_is_read_back_with_paths_in_any_encoding) {
  const TempFolder folder;
  const std::vector<std::int32_t> text{1, 2, 0};
  const std::vector<std::string> paths{"\xce\xc4\xd5\xc2.txt", "a/文章.txt", ""};  // GBK, UTF-8, none
  {
    ShardWriter writer(folder.path() / shard_name("train", 7), "train", some_info(10));
    for (std::uint64_t d = 0; d < 5; ++d)
      writer.add({.tokens = text,
                  .quality = static_cast<float>(d) / 8,
                  .cluster = ~d,
                  .file = paths[d % 3],
                  .offset = d << 40,
                  .bytes = 100 + d,
                  .encoding = static_cast<std::uint8_t>(d % 4),
                  .script = static_cast<std::uint8_t>(d % 3)});
    writer.add({.tokens = text});
    const auto summary = writer.finish();
    BOOST_TEST(summary.file == "train-00007.h5");
    // As a rank hands it to the one that writes the manifest.
    BOOST_TEST((nlohmann::ordered_json::parse(nlohmann::ordered_json(summary).dump()).get<ShardSummary>() == summary));
    write_manifest(folder.path(), {some_info(10), {summary}});
  }
  verify(folder.path());
  for (const bool map : {true, false}) {
    const Dataset dataset(folder.path(), "train", {true, map});
    const ShardReader& shard = *dataset.shards()[0];
    BOOST_TEST(shard.files().size() == 3u);
    for (std::uint64_t d = 0; d < 5; ++d) {
      BOOST_TEST(shard.doc_qualities()[d] == static_cast<float>(d) / 8);
      BOOST_TEST(shard.doc_clusters()[d] == ~d);
      BOOST_TEST(shard.files()[shard.doc_files()[d]] == paths[d % 3]);
      BOOST_TEST(shard.doc_raw_offsets()[d] == d << 40);
      BOOST_TEST(shard.doc_raw_bytes()[d] == 100 + d);
      BOOST_TEST(shard.doc_encodings()[d] == d % 4);
      BOOST_TEST(shard.doc_scripts()[d] == d % 3);
    }
    BOOST_TEST(std::isnan(shard.doc_qualities()[5]));
    BOOST_TEST((!shard.has_labels() && !shard.has_loss_weights()));
    BOOST_CHECK_THROW(shard.read_labels(0, 1, nullptr), Error);
  }
}

BOOST_AUTO_TEST_CASE(columns_beside_the_tokens_are_checked_when_written) {
  const TempFolder folder;
  const std::vector<std::int32_t> text{1, 2, 0}, labels{2, no_label, 9}, high{2, 10, 2}, short_labels{1};
  const std::vector<float> weights{0, 1, 0.5f}, negative{1, -1, 1}, infinite{1, INFINITY, 1}, short_weights{1};
  ShardWriter writer(folder.path() / "train-00000.h5", "train", some_info(10));
  const auto refusal = [&](const Document& document) { return user_error_of([&] { writer.add(document); }); };
  BOOST_TEST(contains(refusal({.tokens = text, .loss_weight = short_weights}), "1 loss weights for 3 tokens"));
  BOOST_TEST(contains(refusal({.tokens = text, .loss_weight = negative}), "loss weight -1 at 1"));
  BOOST_TEST(contains(refusal({.tokens = text, .loss_weight = infinite}), "loss weight inf at 1"));
  BOOST_TEST(contains(refusal({.tokens = text, .labels = short_labels}), "1 labels for 3 tokens"));
  BOOST_TEST(contains(refusal({.tokens = text, .labels = high}), "label 10 at 1"));
  writer.add({.tokens = text, .loss_weight = weights, .labels = labels});
  BOOST_TEST(contains(refusal({.tokens = text}), "none, unlike"));
  writer.add({});  // without tokens there is nothing to label
  writer.finish();
  ShardReader(folder.path() / "train-00000.h5").verify();
}

BOOST_AUTO_TEST_CASE(blocks_are_checked_when_first_touched_and_no_sooner) {
  const TempFolder folder;
  Documents documents(3, std::vector<std::int32_t>(block_bytes / 2, 1));  // a block each
  write_dataset(folder.path(), documents, 200);
  const auto path = folder.path() / "train-00000.h5";
  flip_byte(path, token_offset(path) + 2 * block_bytes + 5);
  const ShardReader shard(path), unchecked(path, {.verify_blocks = false});
  std::vector<std::int32_t> some(4);
  for (const std::int64_t first : {std::int64_t{0}, 2 * block_bytes / 2 - 4}) shard.read(first, 4, some.data());
  for (int again = 0; again < 2; ++again) {  // and every time
    const auto message = user_error_of([&] { shard.read(2 * block_bytes / 2 - 2, 4, some.data()); });
    BOOST_TEST(contains(message, "train-00000.h5: /tokens: block 2 (tokens [1048576, 1572864))"), message);
  }
  unchecked.read(2 * block_bytes / 2, 4, some.data());
  // What was checked is not checked again: a change under an open shard goes unseen there.
  flip_byte(path, token_offset(path) + 5);
  shard.read(0, 4, some.data());
}

BOOST_AUTO_TEST_CASE(a_damaged_column_beside_the_tokens_is_named) {
  const TempFolder folder;
  const std::vector<std::int32_t> text{1, 2, 3, 4, 5, 6, 7, 0};
  const std::vector<float> weights{0, 1, 2, 3.75f, 4, 5, 6, 7};
  const auto path = folder.path() / "train-00000.h5";
  ShardWriter writer(path, "train", some_info(10));
  writer.add({.tokens = text, .loss_weight = weights});
  writer.finish();
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto at = bytes.find(std::string(reinterpret_cast<const char*>(weights.data()), 32));
  BOOST_REQUIRE(at != std::string::npos);
  flip_byte(path, static_cast<std::int64_t>(at) + 3);
  const ShardReader shard(path);
  std::vector<float> found(8);
  std::vector<std::int32_t> tokens(8);
  shard.read(0, 8, tokens.data());
  const auto message = user_error_of([&] { shard.read_loss_weights(0, 8, found.data()); });
  BOOST_TEST(contains(message, "/token/loss_weight: block 0"), message);
  BOOST_TEST(contains(user_error_of([&] { shard.verify(); }), "/token/loss_weight: block 0"));
}

BOOST_AUTO_TEST_CASE(a_file_cut_short_after_it_was_opened_is_an_error_where_it_was_not_touched) {
  const TempFolder folder;
  Documents documents(3, std::vector<std::int32_t>(block_bytes / 2, 1));
  write_dataset(folder.path(), documents, 200);
  const auto path = folder.path() / "train-00000.h5";
  const ShardReader shard(path);
  std::vector<std::int32_t> some(4);
  shard.read(0, 4, some.data());
  fs::resize_file(path, static_cast<std::uintmax_t>(token_offset(path) + block_bytes + 4096));
  shard.read(4, 4, some.data());  // its block is there still
  const auto page = reinterpret_cast<std::uintptr_t>(some.data()) / 4096 * 4096;
  // An emulated kernel takes any advice, and follows none.
  const auto advise = [&](int advice) { return ::madvise(reinterpret_cast<void*>(page), 4096, advice) == 0; };
  if (advise(12345) || (!advise(MADV_POPULATE_READ) && errno == EINVAL))
    return void(std::puts("skipped in part: this kernel has no MADV_POPULATE_READ"));
  const auto message = user_error_of([&] { shard.read(2 * block_bytes / 2, 4, some.data()); });
  BOOST_TEST((contains(message, "block 2") && contains(message, "shorter")), message);
}

BOOST_AUTO_TEST_CASE(a_dataset_grows_by_shards_that_follow_and_keeps_what_was_there) {
  const TempFolder folder;
  const Documents first = random_documents(30, 50, 100, 1), second = random_documents(20, 50, 100, 2);
  write_dataset(folder.path(), first, 100, 200);
  const Dataset before(folder.path(), "train");
  auto info = some_info(100);
  info.sources = {{"news", "CC0", "cc"}};
  std::ofstream(folder.path() / "train-00077.h5") << "left by a call that was cut short";
  auto writer = DatasetWriter::append(folder.path(), info, 200);
  for (const auto& document : second) writer.add("train", {.tokens = document});
  const auto manifest = writer.finish();
  BOOST_TEST(manifest.info.sources.size() == 3u);
  verify(folder.path());
  const Dataset after(folder.path(), "train");
  Documents both = first;
  both.insert(both.end(), second.begin(), second.end());
  BOOST_CHECK(read_all(after) == both);
  BOOST_TEST(after.fingerprint(std::ssize(before.shards())) == before.fingerprint());
  BOOST_TEST(after.fingerprint() != before.fingerprint());
  BOOST_TEST(Manifest({{}, {{"train-00007.h5", "train", 1, 1, 1, 1}}}).next_number("train") == 8);  // some are missing
  info.tokenizer_sha256 = "other";
  BOOST_TEST(contains(user_error_of([&] { DatasetWriter::append(folder.path(), info); }), "cannot grow"));
  BOOST_TEST(contains(user_error_of([&] { extended(manifest, some_info(100), {manifest.shards[0]}); }), "already"));
}
