// Safetensors files and checkpoints: what is written comes back, what is damaged is refused by name, and a save that
// fails or is killed leaves the checkpoint before it.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/host/self_communicator.h"
#include "framework/base/check.h"
#include "framework/train/checkpoint.h"
#include "framework/train/safetensors.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::train;
namespace fs = std::filesystem;
using test::contains;
using test::message_of;

namespace {

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

Tensor counting(Shape shape, float first = 0) {
  std::vector<float> values(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i) / 8;
  return Tensor::of(std::span<const float>(values), shape);
}

// A file with this header and `data` zero bytes.
void write_raw(const fs::path& path, const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  write(path, bytes + header + std::string(data, '\0'));
}

models::ModelConfig small_model() {
  models::ModelConfig c;
  c.hidden_size = 8, c.num_hidden_layers = 1, c.num_attention_heads = 2, c.num_key_value_heads = 1, c.head_dim = 4;
  c.intermediate_size = 6, c.vocab_size = 10, c.max_position_embeddings = 4, c.tie_word_embeddings = true;
  return c;
}

// As the only rank.
fs::path save_checkpoint(const fs::path& root, std::int64_t step, const CheckpointContents& contents,
                         std::int64_t keep) {
  return train::save_checkpoint(root, step, contents, keep, *comm::make_self_communicator());
}

CheckpointContents contents_of(float first, std::int64_t rows = 10) {
  CheckpointContents contents;
  contents.model = small_model();
  contents.weights = {whole_part({"model.embed_tokens.weight", counting({rows, 8}, first).to(Dtype::bf16)}),
                      whole_part({"model.norm.weight", counting({8}, first).to(Dtype::bf16)})};
  for (const char* part : {".master", ".m", ".v"}) {
    const auto name = "model.embed_tokens.weight" + std::string(part);
    contents.optimizer.push_back(whole_part({name, counting({rows, 8}, first)}));
  }
  contents.state = {{"seen", first}};
  return contents;
}

// The checkpoint is whole, and of the save that contents_of(first) belongs to.
void check_holds(const fs::path& dir, std::int64_t step, float first, std::int64_t rows = 10) {
  const TrainerState state = load_trainer_state(dir);
  BOOST_TEST(state.step == step);
  BOOST_TEST(state.state["seen"].get<float>() == first);
  const ExpectedTensor expected[] = {{"model.embed_tokens.weight", {rows, 8}}, {"model.norm.weight", {8}}};
  const auto weights = load_model_tensors(dir, expected);
  const auto embedding = contents_of(first, rows).weights[0].pieces[0].elements;
  BOOST_TEST(weights.read("model.embed_tokens.weight").floats() == embedding.floats(),
             boost::test_tools::per_element());
  const ExpectedTensor optimizer[] = {{"model.embed_tokens.weight.master", {rows, 8}},
                                      {"model.embed_tokens.weight.m", {rows, 8}},
                                      {"model.embed_tokens.weight.v", {rows, 8}}};
  const auto states = load_optimizer_tensors(dir, optimizer);
  BOOST_TEST(states.read("model.embed_tokens.weight.m").floats() == counting({rows, 8}, first).floats(),
             boost::test_tools::per_element());
}

// Runs `body` in a process of its own whose files cannot grow beyond `limit` bytes: with the signal ignored a write
// fails as on a full disk, otherwise the kernel kills the process in the middle of it.
int with_file_limit(rlim_t limit, bool killed, const auto& body) {
  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit no_core{0, 0}, size{limit, limit};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGXFSZ, killed ? SIG_DFL : SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &size);
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

BOOST_AUTO_TEST_CASE(tensors_of_every_dtype_and_shape_come_back_to_the_bit) {
  test::TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  std::vector<NamedTensor> tensors = {{"b", counting({3, 5})},
                                      {"half", counting({7}).to(Dtype::bf16)},
                                      {"f16", counting({1, 3}).to(Dtype::f16)},
                                      {"empty", counting({0, 4})},
                                      {"scalar", counting({})},
                                      {"名字 \"x\"", counting({2})}};
  const std::int64_t wide[] = {1, -2, std::int64_t{1} << 40};
  const std::uint8_t narrow[] = {1, 2, 255};
  tensors.push_back({"wide", Tensor::of(std::span<const std::int64_t>(wide), {3})});
  tensors.push_back({"narrow", Tensor::of(std::span<const std::uint8_t>(narrow), {3})});
  tensors.push_back({"turned", counting({3, 5}).transpose(0, 1)});
  write_safetensors(path, tensors, {{"format", "pt"}, {"step", "7"}});

  const SafetensorsFile file(path);
  BOOST_TEST(file.metadata().at("step") == "7");
  BOOST_TEST(file.entries().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor read = file.read(name), whole = tensor.contiguous() ? tensor : tensor.clone();
    BOOST_TEST(read.str() == whole.str());
    BOOST_TEST((whole.count() == 0 || std::memcmp(read.raw().data, whole.raw().data, whole.raw().bytes()) == 0), name);
    BOOST_TEST(file.entry(name).begin % size_of(tensor.dtype()) == 0u, name << " is not aligned");
  }
  // Wider dtypes first, then names; the empty one begins where another does.
  const auto begin = [&](const char* name) { return file.entry(name).begin; };
  BOOST_TEST((begin("wide") < begin("b") && begin("b") < begin("scalar") && begin("scalar") < begin("turned") &&
              begin("turned") < begin("f16") && begin("f16") < begin("half") && begin("half") < begin("narrow")));
  std::uint64_t length = 0;
  const std::string bytes = bytes_of(path);
  std::memcpy(&length, bytes.data(), 8);
  BOOST_TEST(length % 8 == 0u);
  BOOST_TEST(names_in(folder.path()) == std::vector<std::string>{"t.safetensors"}, boost::test_tools::per_element());
  BOOST_CHECK_THROW(file.read("none"), Error);
}

BOOST_AUTO_TEST_CASE(reading_converts_between_floating_dtypes_only) {
  test::TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  const std::int32_t ids[] = {1, 2};
  write_safetensors(path, std::vector<NamedTensor>{{"x", counting({4, 2}).to(Dtype::bf16)},
                                                   {"ids", Tensor::of(std::span<const std::int32_t>(ids), {2})}});
  const SafetensorsFile file(path);
  const Tensor target = Tensor::zeros({4, 2}, Dtype::f32);
  file.read_into("x", target);
  BOOST_TEST(target.floats() == counting({4, 2}).floats(), boost::test_tools::per_element());  // eighths fit bf16
  BOOST_CHECK_THROW(file.read_into("x", Tensor::zeros({2, 4}, Dtype::f32)), Error);
  BOOST_CHECK_THROW(file.read_into("ids", Tensor::zeros({2}, Dtype::f32)), Error);
}

BOOST_AUTO_TEST_CASE(a_truncated_file_is_refused_at_every_length) {
  test::TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  write_safetensors(path, std::vector<NamedTensor>{{"x", counting({4})}, {"y", counting({3}).to(Dtype::bf16)}});
  const std::string whole = bytes_of(path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write(path, whole.substr(0, length));
    BOOST_TEST_CONTEXT("length " << length) {
      BOOST_TEST(message_of([&] { SafetensorsFile file(path); }).starts_with(path.string() + ":"));
    }
  }
  write(path, whole + "x");
  BOOST_TEST(contains(message_of([&] { SafetensorsFile file(path); }), "truncated or altered"));
}

BOOST_AUTO_TEST_CASE(an_altered_header_is_refused_naming_file_and_tensor) {
  test::TempFolder folder;
  const auto path = folder.path() / "t.safetensors";
  const auto refused = [&](const std::string& header, std::size_t data = 8) {
    write_raw(path, header, data);
    return message_of([&] { SafetensorsFile file(path); });
  };
  const auto with = [&](const std::string& entry) { return refused(R"({"x":)" + entry + "}"); };
  BOOST_TEST(refused(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})") == "no UserError");
  BOOST_TEST(contains(with(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"),
                      path.string() + ": tensor x: dtype F8_E4M3 is not supported"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
                      "tensor x: 8 bytes of data, but f32[3] takes 12"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})"),
                      "tensor x: bytes 0 to 12 lie outside the file's data of 8 bytes"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "tensor x: bytes 8 to 0"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "tensor x: shape [-2]"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]})"),
                      "tensor x: shape [4611686018427387904,4] is larger than memory"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]})"), "tensor x: 7 axes"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[2],"data_offsets":[0,1e99]})"), "tensor x: data_offsets"));
  BOOST_TEST(contains(with(R"({"dtype":"F32","shape":[2]})"), "tensor x: the header must give dtype, shape"));
  BOOST_TEST(contains(refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                              R"("y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"),
                      "overlap or leave a hole"));
  BOOST_TEST(
      contains(refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"), "tensor x begins at byte 4"));
  BOOST_TEST(contains(refused("[1]"), "header is not a JSON object"));
  BOOST_TEST(contains(refused("{"), "header is not JSON"));
  BOOST_TEST(contains(refused(R"({"__metadata__":{"a":1}})", 0), "__metadata__"));
  write(path, std::string(7, '\xff') + std::string(20, 'x'));
  BOOST_TEST(contains(message_of([&] { SafetensorsFile file(path); }), "its header claims"));
  BOOST_TEST(contains(message_of([&] { SafetensorsFile file(folder.path() / "none"); }), "none: cannot be opened"));
}

BOOST_AUTO_TEST_CASE(a_large_set_is_split_by_size_and_read_as_one) {
  test::TempFolder folder;
  std::vector<NamedTensor> tensors;
  for (int i = 0; i < 5; ++i) tensors.push_back({"t" + std::to_string(i), counting({10}, static_cast<float>(i))});
  const auto list = whole_parts(tensors);
  const SafetensorsLayout layout("model", list, 80);  // two tensors of 40 bytes a file
  for (const auto& file : layout.files) create_file(folder.path(), file);
  PartWriter writer(folder.path(), layout, list);
  int rounds = 1;
  while (writer.advance(12)) ++rounds;  // three elements of the ten
  BOOST_TEST(rounds > 10);
  write(folder.path() / layout.index_name, layout.index);
  const std::vector<std::string> files = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"};
  BOOST_TEST(names_in(folder.path()) == files, boost::test_tools::per_element());
  const SafetensorsSet set(folder.path(), "model");
  BOOST_TEST(set.names().size() == 5u);
  for (const auto& [name, tensor] : tensors) BOOST_TEST((set.read(name).floats() == tensor.floats()), name);

  const auto index = folder.path() / "model.safetensors.index.json";
  const auto second = folder.path() / files[1];
  const std::string text = bytes_of(index), data = bytes_of(second);
  const auto refused = [&] { return message_of([&] { SafetensorsSet broken(folder.path(), "model"); }); };
  fs::remove(second);
  BOOST_TEST(contains(refused(), index.string() + ": lists model-00002-of-00003.safetensors, which is missing"));
  fs::copy_file(folder.path() / files[0], second);
  BOOST_TEST(contains(refused(), "tensor t0 lies in"));
  write_safetensors(second, std::vector<NamedTensor>{tensors[2]});
  BOOST_TEST(contains(refused(), second.string() + ": tensor t3 is missing"));
  write(second, data);
  write(index, R"({"weight_map": {"t0": "../evil.safetensors"}})");
  BOOST_TEST(contains(refused(), "'../evil.safetensors' is not the name of a file in this directory"));
  write(index, "{}");
  BOOST_TEST(contains(refused(), index.string() + ": expected a JSON object whose weight_map"));
  fs::remove(index);
  BOOST_TEST(contains(refused(), "holds neither model.safetensors nor model.safetensors.index.json"));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_comes_back_whole) {
  test::TempFolder folder;
  const auto tokenizer = folder.path() / "tokenizer";
  fs::create_directory(tokenizer);
  write(tokenizer / "tokenizer.json", "{}");
  write(tokenizer / "other.bin", "x");
  CheckpointContents contents = contents_of(1);
  contents.tokenizer = tokenizer;
  contents.dtype = Dtype::bf16;
  const auto dir = save_checkpoint(folder.path() / "runs/a", 200, contents, 3);
  BOOST_TEST(dir.filename() == "step-000200");
  const std::vector<std::string> files = {"config.json", "generation_config.json", "model.safetensors",
                                          "optimizer",   "tokenizer.json",         "trainer_state.json"};
  BOOST_TEST(names_in(dir) == files, boost::test_tools::per_element());
  check_holds(dir, 200, 1);
  require_same_model(dir, small_model());
  BOOST_TEST((newest_checkpoint(folder.path() / "runs/a") == dir));

  contents.tokenizer = folder.path() / "runs";
  BOOST_TEST(contains(message_of([&] { save_checkpoint(folder.path() / "runs/a", 300, contents, 3); }),
                      "runs: holds no tokenizer"));
  BOOST_TEST(names_in(folder.path() / "runs/a") == std::vector<std::string>{"step-000200"},
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_newest_stay_and_a_step_saved_again_is_replaced) {
  test::TempFolder folder;
  for (int step : {1, 2, 3, 4}) save_checkpoint(folder.path(), step, contents_of(static_cast<float>(step)), 2);
  const std::vector<std::string> last_two = {"step-000003", "step-000004"};
  BOOST_TEST(names_in(folder.path()) == last_two, boost::test_tools::per_element());
  save_checkpoint(folder.path(), 4, contents_of(44), 2);
  BOOST_TEST(names_in(folder.path()) == last_two, boost::test_tools::per_element());
  check_holds(*newest_checkpoint(folder.path()), 4, 44);
  // An earlier step than those there: what was just written is never what goes.
  save_checkpoint(folder.path(), 1, contents_of(1), 1);
  BOOST_TEST(names_in(folder.path()) == std::vector<std::string>{"step-000001"}, boost::test_tools::per_element());
  BOOST_TEST(!newest_checkpoint(folder.path() / "none"));
}

BOOST_AUTO_TEST_CASE(a_damaged_checkpoint_is_passed_over) {
  test::TempFolder folder;
  const auto first = save_checkpoint(folder.path(), 1, contents_of(1), 3);
  const auto second = save_checkpoint(folder.path(), 2, contents_of(2), 3);
  fs::create_directory(folder.path() / "step-000009");  // nothing in it
  fs::create_directory(folder.path() / "step-x");
  BOOST_TEST((newest_checkpoint(folder.path()) == second));
  const auto size = fs::file_size(second / "model.safetensors");
  fs::resize_file(second / "model.safetensors", size - 1);
  BOOST_TEST((newest_checkpoint(folder.path()) == first));
  fs::resize_file(second / "model.safetensors", size);
  BOOST_TEST((newest_checkpoint(folder.path()) == second));
  write(second / "trainer_state.json", "{");
  BOOST_TEST((newest_checkpoint(folder.path()) == first));
  BOOST_TEST(contains(message_of([&] { load_trainer_state(second); }), "trainer_state.json: damaged"));
  write(second / "trainer_state.json", R"({"format": 99})");
  BOOST_TEST(contains(message_of([&] { load_trainer_state(second); }), "format: expected 1 to 2, found 99"));
  BOOST_TEST(contains(message_of([&] { load_trainer_state(folder.path()); }), "trainer_state.json: cannot be read"));
  // The format before this one differs in nothing that is read.
  std::string older = bytes_of(first / "trainer_state.json");
  older.replace(older.find("\"format\": 2"), 11, "\"format\": 1");
  write(first / "trainer_state.json", older);
  check_holds(first, 1, 1);
  BOOST_TEST((newest_checkpoint(folder.path()) == first));
  // A damaged one does not count among those that stay.
  save_checkpoint(folder.path(), 3, contents_of(3), 2);
  BOOST_TEST(fs::exists(first));
}

BOOST_AUTO_TEST_CASE(a_full_disk_keeps_the_previous_checkpoint) {
  test::TempFolder folder;
  const auto first = save_checkpoint(folder.path(), 1, contents_of(1, 100), 1);
  const auto whole = fs::file_size(first / "optimizer/optimizer.safetensors");
  // Limits that stop the save at config.json, at the weights and at the optimizer's tensors.
  const std::pair<rlim_t, std::string> stops[] = {
      {10, "config.json"}, {1200, "model.safetensors"}, {whole - 1, "optimizer/optimizer.safetensors"}};
  for (const auto& [limit, file] : stops) {
    const int status = with_file_limit(limit, false, [&, &file = file] {
      const auto message = message_of([&] { save_checkpoint(folder.path(), 2, contents_of(2, 100), 1); });
      return contains(message, file + ": cannot be written: File too large");
    });
    BOOST_TEST_CONTEXT("limit " << limit) {
      BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
      BOOST_TEST(names_in(folder.path()) == std::vector<std::string>{"step-000001"}, boost::test_tools::per_element());
      check_holds(*newest_checkpoint(folder.path()), 1, 1, 100);
    }
  }
}

BOOST_AUTO_TEST_CASE(room_for_all_is_found_before_anything_is_written) {
  test::TempFolder folder;
  const std::vector<TensorPart> list = {{"x", Dtype::f32, {1000}, {}}};
  const SafetensorsLayout layout("model", list, 1);
  const auto& file = layout.files.at(0);
  const int status = with_file_limit(file.size - 1, false, [&] {
    return contains(message_of([&] { create_file(folder.path(), file); }), "cannot be written: File too large");
  });
  BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  create_file(folder.path(), file);
  BOOST_TEST(fs::file_size(folder.path() / "model.safetensors") == file.size);
  BOOST_TEST(SafetensorsFile(folder.path() / "model.safetensors").read("x").floats() == std::vector<float>(1000));
}

BOOST_AUTO_TEST_CASE(a_save_killed_in_the_middle_leaves_no_half_checkpoint) {
  test::TempFolder folder;
  save_checkpoint(folder.path(), 1, contents_of(1, 100), 1);
  for (rlim_t limit : {10, 1200, 3000}) {
    const int status = with_file_limit(limit, true, [&] {
      save_checkpoint(folder.path(), 2, contents_of(2, 100), 1);
      return true;
    });
    BOOST_TEST_CONTEXT("limit " << limit) {
      BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ));
      const std::vector<std::string> left = {".step-000002.tmp", "step-000001"};
      BOOST_TEST(names_in(folder.path()) == left, boost::test_tools::per_element());
      check_holds(*newest_checkpoint(folder.path()), 1, 1, 100);
    }
  }
  save_checkpoint(folder.path(), 3, contents_of(3, 100), 1);
  BOOST_TEST(names_in(folder.path()) == std::vector<std::string>{"step-000003"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_save_killed_at_any_time_leaves_a_whole_checkpoint) {
  test::TempFolder folder;
  save_checkpoint(folder.path(), 1, contents_of(1), 2);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    BOOST_REQUIRE(child >= 0);
    if (child == 0) {
      for (int step = 2;; ++step) save_checkpoint(folder.path(), 1 + step % 4, contents_of(1), 2);
    }
    ::usleep(static_cast<useconds_t>(1000 + 700 * i));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    const auto newest = newest_checkpoint(folder.path());
    BOOST_REQUIRE(newest.has_value());
    check_holds(*newest, load_trainer_state(*newest).step, 1);
  }
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_the_model_are_named_with_their_file) {
  test::TempFolder folder;
  const auto file = folder.path() / "model.safetensors";
  const std::int32_t ids[] = {1};
  write_safetensors(file, std::vector<NamedTensor>{{"a", counting({2, 3})},
                                                   {"b", counting({4}).to(Dtype::f16)},
                                                   {"ids", Tensor::of(std::span<const std::int32_t>(ids), {1})},
                                                   {"lm_head.weight", counting({2})}});
  const auto refused = [&](std::vector<ExpectedTensor> expected) {
    return message_of([&] { load_model_tensors(folder.path(), expected); });
  };
  BOOST_TEST(refused({{"a", {2, 3}}, {"b", {4}}, {"ids", {1}}}) ==
             folder.path().string() + ": the tensors do not fit the model of config.json:\n  " + file.string() +
                 ": tensor ids: expected f32, bf16 or f16, found i32");
  const auto many = refused({{"a", {3, 2}}, {"c", {5}}});
  BOOST_TEST(contains(many, file.string() + ": tensor a: expected shape [3, 2], found [2, 3]"));
  BOOST_TEST(contains(many, folder.path().string() + ": tensor c [5] is missing"));
  BOOST_TEST(contains(many, file.string() + ": tensor b [4] does not belong to this model"));

  // Masters are kept exactly, moments may be rounded.
  fs::create_directory(folder.path() / "optimizer");
  const auto states = folder.path() / "optimizer/optimizer.safetensors";
  write_safetensors(states, std::vector<NamedTensor>{{"a.m", counting({2}).to(Dtype::bf16)},
                                                     {"a.master", counting({2}).to(Dtype::bf16)}});
  const ExpectedTensor expected_states[] = {{"a.m", {2}}, {"a.master", {2}}};
  BOOST_TEST(contains(message_of([&] { load_optimizer_tensors(folder.path(), expected_states); }),
                      "model of config.json:\n  " + states.string() + ": tensor a.master: expected f32, found bf16"));

  // Tied embeddings: a stored output layer is passed over; untied, a missing one is a fault.
  write_safetensors(file, std::vector<NamedTensor>{{"a", counting({2})}, {"lm_head.weight", counting({2})}});
  BOOST_TEST(refused({{"a", {2}}}) == "no UserError");
  write_safetensors(file, std::vector<NamedTensor>{{"a", counting({2})}});
  BOOST_TEST(contains(refused({{"a", {2}}, {"lm_head.weight", {2}}}), "tensor lm_head.weight [2] is missing"));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_of_another_model_is_refused_naming_the_fields) {
  test::TempFolder folder;
  const auto dir = save_checkpoint(folder.path(), 1, contents_of(1), 1);
  models::ModelConfig other = small_model();
  other.num_hidden_layers = 2;
  other.rope_theta = 5e5;
  const auto message = message_of([&] { require_same_model(dir, other); });
  BOOST_TEST(contains(message, (dir / "config.json").string() + ": a checkpoint of another model"));
  BOOST_TEST(contains(message, "num_hidden_layers: expected 2, found 1"));
  BOOST_TEST(contains(message, "rope_theta: expected 500000, found 10000"));
}
