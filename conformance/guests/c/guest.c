/* The plugin in C of the demo and the conformance suite. */
#include "extism.h"

enum { MAX_VOWELS = 64, MAX_VOWEL_BYTES = 4 * MAX_VOWELS };

/* Text put together in the plugin's own memory; `size` bytes are in use. What does not fit is left out: the callers
   below bound what they write, so nothing ever is. */
typedef struct {
    char bytes[128 + 6 * MAX_VOWEL_BYTES];
    size_t size;
} text;

static text result;

static void put_char(text *t, char c) {
    if (t->size < sizeof t->bytes) t->bytes[t->size++] = c;
}

static void put(text *t, const char *zero_terminated) {
    while (*zero_terminated) put_char(t, *zero_terminated++);
}

static void put_number(text *t, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) put_char(t, digits[--count]);
}

/* Writes bytes as the inside of a JSON string. */
static void put_json(text *t, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        const uint8_t c = (uint8_t)bytes[i];
        if (c == '"' || c == '\\') {
            put_char(t, '\\');
            put_char(t, (char)c);
        } else if (c < 0x20) {
            put(t, "\\u00");
            put_char(t, (char)('0' + (c >> 4)));
            put_char(t, "0123456789abcdef"[c & 15]);
        } else {
            put_char(t, (char)c);
        }
    }
}

/* Takes one byte of UTF-8 at a time. A character is kept as its bytes, first byte highest: as good for comparing as its
   code point. `left` is the number of bytes still to come. */
typedef struct {
    uint32_t bytes;
    uint32_t left;
} character;

/* Whether the character is complete with this byte. */
static int next_byte(character *c, uint8_t byte) {
    if (c->left && (byte & 0xC0) == 0x80) {
        c->bytes = c->bytes << 8 | byte;
        c->left--;
    } else {
        c->bytes = byte;
        c->left = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC0 ? 1 : 0;
    }
    return c->left == 0;
}

static int32_t fail_with(extism_handle message) {
    extism_error_set(message);
    return 1;
}

static uint64_t load_total(void) {
    const extism_handle block = extism_var_get(EXTISM_TEXT("total"));
    const uint64_t size = extism_length(block);
    uint64_t total = 0;
    for (uint64_t i = 0; i < size; i++) total = total * 10 + (uint64_t)(extism_load_u8(block + i) - '0');
    if (block) extism_free(block);
    return total;
}

/* The variable is decimal text, so that it reads well from outside and is the same for guests in every language. */
static void store_total(uint64_t total) {
    result.size = 0;
    put_number(&result, total);
    const extism_handle key = EXTISM_TEXT("total");
    extism_var_set(key, extism_block(result.bytes, result.size));
}

/* Counts the vowels of the input. The config key "vowels" replaces the set of vowels; the variable "total" adds up the
   counts of all calls. Output: {"count":3,"total":3,"vowels":"aeiouAEIOU"} */
EXTISM_EXPORT("count_vowels") int32_t count_vowels(void) {
    static char vowel_bytes[MAX_VOWEL_BYTES];
    static uint32_t vowels[MAX_VOWEL_BYTES];
    static const char usual[] = "aeiouAEIOU";

    size_t vowel_size = sizeof usual - 1;
    const extism_handle configured = extism_config_get(EXTISM_TEXT("vowels"));
    if (configured) {
        const uint64_t size = extism_length(configured);
        if (size > MAX_VOWEL_BYTES) return fail_with(EXTISM_TEXT("the config key vowels is longer than 256 bytes"));
        vowel_size = (size_t)size;
        extism_load(vowel_bytes, configured, vowel_size);
        extism_free(configured);
    } else {
        for (size_t i = 0; i < vowel_size; i++) vowel_bytes[i] = usual[i];
    }

    size_t vowel_count = 0;
    character c = {0, 0};
    for (size_t i = 0; i < vowel_size; i++)
        if (next_byte(&c, (uint8_t)vowel_bytes[i])) vowels[vowel_count++] = c.bytes;

    uint64_t count = 0;
    const uint64_t size = extism_input_length();
    c = (character){0, 0};
    for (uint64_t i = 0; i < size; i++) {
        if (!next_byte(&c, extism_input_load_u8(i))) continue;
        for (size_t v = 0; v < vowel_count; v++)
            if (c.bytes == vowels[v]) {
                count++;
                break;
            }
    }

    const uint64_t total = load_total() + count;
    store_total(total);

    result.size = 0;
    put(&result, "{\"count\":");
    put_number(&result, count);
    put(&result, ",\"total\":");
    put_number(&result, total);
    put(&result, ",\"vowels\":\"");
    put_json(&result, vowel_bytes, vowel_size);
    put(&result, "\"}");
    extism_output_set(extism_block(result.bytes, result.size), result.size);
    return 0;
}

/* Says "Hello, <input>!". The config key "greeting" replaces "Hello". Nothing passes through the plugin's own memory, so
   the input may have any size. */
EXTISM_EXPORT("greet") int32_t greet(void) {
    extism_handle greeting = extism_config_get(EXTISM_TEXT("greeting"));
    if (!greeting) greeting = EXTISM_TEXT("Hello");
    const uint64_t greeting_size = extism_length(greeting);
    const uint64_t input_size = extism_input_length();
    const uint64_t size = greeting_size + 2 + input_size + 1;

    const extism_handle output = extism_alloc(size);
    if (!output) return fail_with(EXTISM_TEXT("no memory for the greeting"));
    extism_copy(output, greeting, greeting_size);
    extism_store(output + greeting_size, ", ", 2);
    extism_copy_input(output + greeting_size + 2);
    extism_store_u8(output + size - 1, '!');
    extism_output_set(output, size);
    return 0;
}

/* Fails with an error text made from the input: "failed as asked: <input>". */
EXTISM_EXPORT("fail") int32_t fail(void) {
    static const char start[] = "failed as asked: ";
    const size_t start_size = sizeof start - 1;
    const extism_handle message = extism_alloc(start_size + extism_input_length());
    extism_store(message, start, start_size);
    extism_copy_input(message + start_size);
    return fail_with(message);
}

/* Logs the input at level info. */
EXTISM_EXPORT("log") int32_t log_input(void) {
    const extism_handle message = extism_alloc(extism_input_length());
    extism_copy_input(message);
    extism_log_info(message);
    return 0;
}
