// The pages of all sequences: who shares them, where their exact rows are, and which of these move to the slow home
// when fast memory runs out. Contents of fresh pages are undefined.
#pragma once

#include "cache/layout.h"
#include "core/context.h"

namespace kc {

class PagePool {
  public:
    PagePool(kc_context& context, const CacheShape& shape, Layout& layout, kc_spill* spill);

    int32_t n_free() const { return n_free_pages_; }
    bool is_shared(int32_t page) const { return layout_.pages[page].n_references > 1; }
    bool is_spilled(int32_t page) const {
        return layout_.pages[page].exact < 0 && layout_.pages[page].exact != kNoExact;
    }

    // A page with one reference and no exact rows; -1 when all are taken.
    int32_t take();
    void share(int32_t page) { ++layout_.pages[page].n_references; }
    void release(int32_t page);

    // Gives the page a fast slot, which may push another page's rows to the slow home. The page must already stand in
    // its sequence's table: pages of recent and of new tokens are never pushed out. Throws an Error (IO).
    void give_slot(int32_t page);
    // Brings the exact rows of a spilled page back. Throws an Error (IO).
    void bring_back(int32_t page);
    // All rows of a page; where `to` has a slot, exact rows too. Throws an Error (IO).
    void copy(int32_t from, int32_t to);

    // Slots of first pages and centres, one per sequence at most.
    int32_t take_first();
    bool is_first_shared(int32_t slot) const { return layout_.first_references[slot] > 1; }
    void share_first(int32_t slot) { ++layout_.first_references[slot]; }
    void release_first(int32_t slot) { --layout_.first_references[slot]; }
    void copy_first(int32_t from, int32_t to);

    bool uses_first() const { return uses_first_; }
    // Whether a page at this position keeps exact rows in a slot.
    bool needs_slot(int32_t position) const {
        return shape_.has_exact() && (position > 0 || !has_first_v(shape_.selecting));
    }
    // Whether the page of a table holds tokens that the next token of the sequence sees as recent, or newer ones.
    bool is_recent(const Sequence& sequence, const kc_page_view& page) const {
        return page.position + kPageTokens > sequence.n_tokens + 1 - shape_.n_recent;
    }

  private:
    int32_t take_slot();
    void pin();
    void push_out(int32_t slot);
    void release_exact(Page& page);
    void move_exact(int32_t file_page, uint8_t* to);
    void poison(void* memory, uint64_t n_bytes);
    void poison_page(int32_t page);
    uint8_t* slot_rows(int32_t slot) const { return exact_base_ + slot * layout_.slot_bytes; }

    kc_context& context_;
    const CacheShape& shape_;
    Layout& layout_;
    kc_spill* spill_;
    uint8_t* exact_base_;
    bool uses_first_;
    int32_t n_free_pages_ = 0;
    int32_t n_free_slots_ = 0;
    int32_t n_free_file_pages_ = 0;
    int32_t n_file_pages_ = 0;  // that the file has room for
    uint64_t n_births_ = 0;
};

}  // namespace kc
