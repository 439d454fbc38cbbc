#pragma once
// A page's tree by gumbo, within bounds of memory and time whatever the page.

#include <gumbo.h>

#include <csetjmp>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::data {

/// The page can't be parsed within the bounds: the message says which.
class HostileMarkup : public UserError {
 public:
  using UserError::UserError;
};

class HtmlTree {
 public:
  /// HostileMarkup when elements nest more than 2,000 deep (the parser's time grows with depth; browsers stop at 512)
  /// or the tree takes more than 256 MiB (the standard's rules can make a small page's tree huge).
  explicit HtmlTree(std::string_view html);
  HtmlTree(const HtmlTree&) = delete;
  HtmlTree& operator=(const HtmlTree&) = delete;
  const GumboNode& root() const { return *output_->root; }

 private:
  static void* allocate(void* self, std::size_t size);
  GumboOutput* parse(std::string_view html);

  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  std::size_t used_ = 0, size_ = 0, total_ = 0;  // of the last chunk; of all
  std::jmp_buf no_room_;
  GumboOptions options_ = kGumboDefaultOptions;
  GumboOutput* output_ = nullptr;
};

}  // namespace dujiang::data
